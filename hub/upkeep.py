"""What comes round by itself: whatever is due, overdue, about to end, or done by another hub."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from hub import authority, certificates
from hub.delivery import schedule, wakeup
from hub.doors.service import Service
from hub.intake import membership, subscription
from hub.intake.access import ExpireDeliveries
from hub.intake.batch import Job
from hub.intake.erasure import Erase
from hub.intake.recorder import Recorded
from hub.intake.submission import CountedRefusals
from hub.ledger import retention, witnesses
from hub.ledger.sequence import Draft
from hub.store import journal
from hub.store.database import Database
from hub.store.erasures import Erasures
from schemas import entry as entries
from schemas import policy
from schemas.encoding import format_time, parse_time
from schemas.refusal import Refused

ROUND_SECONDS: Final = 20.0

ERASE_BATCH: Final = 100
"""Messages that one round erases, so that nobody's message waits for long."""

REPORT_EVERY: Final = timedelta(seconds=59)
"""The log has one entry a subscription in this time about what was delivered, not one each."""

FORGET_EVERY: Final = timedelta(hours=1)
"""Looking for what is to be forgotten reads all deliveries."""

TOGETHER: Final = 100
"""Jobs of ours in one commit, so that nobody's message waits for long."""

MAX_PARTS: Final = 250
"""Parts of what was delivered that one round records or drops, so that it comes to an end."""

KEEP_DELIVERED: Final = timedelta(days=30)
"""How long it can be seen how a webhook was delivered; the log's entry stays."""

FOLLOW_SECONDS: Final = 1.0
"""How long those who wait at one hub may wait longer for what another one accepted."""

_RESTORED: Final = "It had been erased before a backup was restored."

log = structlog.get_logger("hub")


async def record(service: Service, kind: str) -> None:
    """Record that this hub starts or stops, unless nothing may be signed.

    Raises:
        Refused: the log cannot be written.
    """
    if service.witnesses.stopped is not None:
        # The doors open all the same: witnesses have to be heard, and operators to look.
        log.error("signing.stopped", reason=service.witnesses.stopped)
        return
    public: dict[str, object] = {"version": service.version}
    await service.change(membership.append(Draft(kind, entries.HUB, service.instance, public)))


class _Step(msgspec.Struct, frozen=True):
    """Something that a round does.

    ``signs``: it writes to the log, and is left out while nothing may be signed.
    """

    name: str
    take: Callable[[], Awaitable[None]]
    signs: bool = False


class _Rounds:
    """The rounds, and what one remembers for the next."""

    def __init__(self, service: Service, database: Database, erasures: Erasures) -> None:
        self._service = service
        self._database = database
        self._erasures = erasures
        self._announced = service.witnesses.stopped is None
        self._overdue: set[str] = set()
        self._forgetting = service.clock()
        self._warned: set[tuple[str, int]] = set()

    async def round(self) -> None:
        """Take every step: one that fails, now or for ever, keeps none behind it from its turn.

        A round counts (``HubUpkeepStale``) when none failed; the next one tries all of them again.
        """
        whole = True
        for step in self._steps(self._service.clock()):
            if step.signs and self._service.witnesses.stopped is not None:
                continue
            try:
                await step.take()
            except Exception as error:  # noqa: BLE001 - the next round tries again
                log.warning("upkeep.failed", step=step.name, reason=str(error))
                whole = False
        if whole:
            self._service.metrics.kept_up()

    def _steps(self, now: datetime) -> Sequence[_Step]:
        """The steps in their order; deploy/runbooks/hub-upkeep-stale.md has their names."""
        service, listed = self._service, self._erasures.listed
        return (
            _Step("strangers", partial(_tell_of_strangers, service, now)),
            _Step("witnesses", service.witnesses.check),
            _Step("start", self._announce, signs=True),
            _Step("expiry", partial(_expire, service, now), signs=True),
            _Step("refusals", partial(_count_refusals, service, now), signs=True),
            _Step("erasing", partial(_erase, service, now, listed), signs=True),
            _Step("webhook-reports", partial(_report_webhooks, service, now), signs=True),
            _Step("webhook-ends", partial(_disable_webhooks, service, now), signs=True),
            _Step("late-witnesses", partial(self._record_overdue, now), signs=True),
            _Step("restored", self._reapply),
            _Step("erasures", self._erasures.keep),
            _Step("tokens", partial(journal.forget, self._database, now)),
            _Step("old-webhooks", partial(self._forget, now)),
            _Step("certificates", partial(self._warn, now)),
            _Step("figures", partial(_survey, service)),
        )

    async def _announce(self) -> None:
        if not self._announced:
            await record(self._service, entries.HUB_STARTED)
            self._announced = True

    async def _record_overdue(self, now: datetime) -> None:
        self._overdue = await _record_overdue(self._service, now, self._overdue)

    async def _reapply(self) -> None:
        if self._service.settings.restored.exists():
            await self._erasures.apply()  # the database may have gone back since the start

    async def _forget(self, now: datetime) -> None:
        if now >= self._forgetting:
            await _forget_webhooks(self._service, now)
            self._forgetting = now + FORGET_EVERY

    async def _warn(self, now: datetime) -> None:
        self._warned = await _warn_of_ends(self._service, now, self._warned)


async def run(service: Service, database: Database, erasures: Erasures) -> None:
    """What comes round: expired messages, counted refusals, used tokens past their time."""
    rounds = _Rounds(service, database, erasures)
    while True:
        await rounds.round()
        await asyncio.sleep(ROUND_SECONDS)


async def _record_all(service: Service, jobs: Sequence[Job]) -> Sequence[Refused]:
    """Record jobs, and give the refusals of those that the log does not take.

    Raises:
        Refused: something could not be stored; it keeps none of the others.
    """
    results: list[Recorded | Refused] = []
    for start in range(0, len(jobs), TOGETHER):
        results += await service.recorder.record_all(jobs[start : start + TOGETHER])
    for result in results:
        if isinstance(result, Refused):
            raise result
    outcomes = [result.outcome.refused for result in results if isinstance(result, Recorded)]
    return [refused for refused in outcomes if refused is not None]


async def _tell_of_strangers(service: Service, now: datetime) -> None:
    service.strangers.tell(now)


async def _expire(service: Service, now: datetime) -> None:
    due = await service.queries.due_to_expire(format_time(now))
    jobs = [ExpireDeliveries(each, codes) for each, codes in due.items()]
    for refused in await _record_all(service, jobs):
        raise refused


async def _count_refusals(service: Service, now: datetime) -> None:
    counts = service.meter.overdue(now)
    jobs = [CountedRefusals(code, count) for code, count in counts.items()]
    for refused in await _record_all(service, jobs):
        raise refused


async def _erase(service: Service, now: datetime, listed: frozenset[str]) -> None:
    """Erase what the rules of retention say, and record what only a restore has erased.

    What is empty and not listed was emptied behind our back: that is for the patrol to find.
    """
    undecided = await service.queries.undecided(ERASE_BATCH)
    reasons = {each: _RESTORED for each in undecided if each in listed}
    cutoffs = retention.cutoffs(service.settings.retention, now)
    for due in await service.queries.due_to_erase(cutoffs, ERASE_BATCH):
        reasons.setdefault(due.id, f"Retention: {due.rule} days.")
    if reasons:
        jobs = [Erase(each, entries.HUB, reason) for each, reason in reasons.items()]
        # What is refused another hub has erased before us.
        await _record_all(service, jobs)
        log.info("messages.erased", messages=len(jobs))


async def _record_overdue(service: Service, now: datetime, known: set[str]) -> set[str]:
    """Record which witnesses are behind for long, and which have come back; gives the former."""
    found = witnesses.overdue(await service.witnesses.standing(), now)
    changes = [(entries.WITNESS_OVERDUE, code) for code in sorted(found - known)]
    changes += [(entries.WITNESS_RETURNED, code) for code in sorted(known - found)]
    for kind, code in changes:
        await service.change(membership.append(Draft(kind, entries.HUB, code)))
        log.warning(kind, code=code)
    return found


async def _report_webhooks(service: Service, now: datetime) -> None:
    """Record what became of deliveries, once a minute.

    That is one entry a subscription, or several where there is much to say.
    """
    if service.webhooks is None:
        return
    store, before = service.webhooks.store, format_time(now - REPORT_EVERY)
    for _ in range(MAX_PARTS):
        # Each part begins the minute anew, so that no other hub takes over in the middle.
        time = format_time(service.clock())
        outcomes = await store.outcomes(time, before)
        if not outcomes:
            break
        by_subscription = groupby(outcomes, lambda each: each.subscription)
        jobs = [
            subscription.Report(
                name,
                tuple(subscription.Reported(o.message, o.index, o.state, o.attempts) for o in told),
            )
            for name, told in by_subscription
        ]
        for start in range(0, len(jobs), TOGETHER):
            await asyncio.gather(*(service.change(job) for job in jobs[start : start + TOGETHER]))
        service.metrics.webhooks_done(each.state for each in outcomes)
        before = time  # the minute is ours: what is left belongs to it


async def _forget_webhooks(service: Service, now: datetime) -> None:
    """Drop what became of deliveries long ago, and what is left of ended subscriptions."""
    if service.webhooks is None:
        return
    for _ in range(MAX_PARTS):
        if not await service.webhooks.store.forget(format_time(now - KEEP_DELIVERED)):
            break


async def _disable_webhooks(service: Service, now: datetime) -> None:
    """Disable the endpoints that failed for days, also where nothing was left to be sent there."""
    if service.webhooks is None:
        return
    for each in await service.webhooks.store.subscriptions():
        endpoint, notice = schedule.after_waiting(each.endpoint, now)
        if notice is None:
            continue
        with contextlib.suppress(Refused):  # it was ended meanwhile
            after = replace(each, endpoint=endpoint)
            recorded = await service.change(subscription.stand(each, after, notice))
            service.webhooks.refresh()
            if recorded.index is not None:  # no other hub was faster
                log.warning(
                    "webhook.notice", subscription=each.id, owner=each.owner, notice=notice.value
                )


async def _warn_of_ends(
    service: Service, now: datetime, warned: set[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Say 30, 14 and 3 days before that a participant's or our certificate ends, each once.

    Gives what is not to be said again; once it is renewed it is.
    """
    lefts = {
        row.code: authority.days_left(parse_time(row.not_after), now)
        for row in await service.queries.certificates()
    }
    lefts |= certificates.own_days_left(service.settings, now)
    due = {
        (code, days) for code, left in lefts.items() for days in authority.WARN_DAYS if left <= days
    }
    for code in sorted({code for code, _ in due - warned}):
        log.warning("certificate.ends", code=code, days_left=lefts[code])
    service.metrics.certificates(lefts)
    return due


async def _survey(service: Service) -> None:
    """Measure what takes a query; all else is measured where it happens."""
    if service.webhooks is not None:
        store = service.webhooks.store
        service.metrics.webhooks(await store.owing(), await store.subscriptions())
    service.metrics.surveyed(
        service.recorder.state.directory,
        await service.queries.waiting(),
        await service.queries.oldest_waiting(),
        service.clock(),
    )
    directory, size = service.recorder.state.directory, service.recorder.state.tree.size
    codes = policy.witnesses(service.settings.origin, directory)
    standing = await service.witnesses.standing()
    service.metrics.witnessed(
        standing, witnesses.lags(standing, codes, size), service.witnesses.seen, size
    )


async def follow_others(service: Service) -> None:
    """Wake those who wait here for what another hub has written to the same log.

    Our own commits are among it; whoever was woken by them already looks once more.
    """
    size = service.recorder.state.tree.size
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        with contextlib.suppress(Exception):  # the database is away, and the upkeep says so
            news = await service.queries.news(size)
            touched = news.touched if news.size == size else news.touched | {wakeup.LOG}
            if service.webhooks is not None:
                service.webhooks.erased(news.erased)
            service.bells.ring(touched)
            if news.size != service.recorder.state.tree.size:
                await service.change(membership.CATCH_UP)
            if news.directory:
                # Whose key or standing ended must not go on reading here.
                service.bells.ring(service.recorder.state.directory.participants.keys())
            size = news.size

"""When a webhook is tried again, and when its endpoint is given up. Pure: time is an argument.

A **delivery** is one message for one subscription; an **endpoint** is where a subscription's
deliveries go. Both move by tables. An answer is first read as what happened (``heard``), then it
moves the delivery (``after_attempt``) and the endpoint (``after_answer``), each by itself: what is
kept of both is small enough to be written in one transaction. After a crash before it the attempt
is made again, and the receiver knows the ``webhook-id``.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

RETRIES: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""How long after each failed attempt comes the next: ten attempts over three days and some hours.

It is the example schedule of Standard Webhooks 1.0, "Deliverability and reliability".
"""

JITTER: Final = 0.1
"""By which part of itself a delay grows at most, so that endpoints are not all tried at once."""

MAX_RETRY_AFTER: Final = RETRIES[-1]
"""An endpoint can ask for no longer a rest than the longest of our own."""

WARN_AFTER: Final = timedelta(days=3)
DISABLE_AFTER: Final = timedelta(days=5)
"""Of failures without one success between them."""

NOTICE: Final = timedelta(days=1)
"""At least so long before an endpoint is disabled its holder is told."""


class Heard(StrEnum):
    """What an attempt came to."""

    TAKEN = "taken"
    FAILED = "failed"
    GONE = "gone"


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"
    WITHHELD = "withheld"


# (state, event) -> state; what is missing does not happen. ``exhausted`` is a failure after the
# last retry, ``forbidden`` the marking's rule at the moment of sending, which decides again on what
# is ``replayed``.
DELIVERY_MOVES: Mapping[tuple[DeliveryState, str], DeliveryState] = MappingProxyType(
    {
        (DeliveryState.WAITING, "taken"): DeliveryState.DELIVERED,
        (DeliveryState.WAITING, "failed"): DeliveryState.WAITING,
        (DeliveryState.WAITING, "gone"): DeliveryState.DEAD,
        (DeliveryState.WAITING, "exhausted"): DeliveryState.DEAD,
        (DeliveryState.WAITING, "forbidden"): DeliveryState.WITHHELD,
        (DeliveryState.DEAD, "replayed"): DeliveryState.WAITING,
        (DeliveryState.DELIVERED, "replayed"): DeliveryState.WAITING,
        (DeliveryState.WITHHELD, "replayed"): DeliveryState.WAITING,
    }
)


class EndpointState(StrEnum):
    """Where an endpoint stands; those in ``SENT_TO`` are sent to."""

    UNPROVEN = "unproven"
    ACTIVE = "active"
    FAILING = "failing"
    WARNED = "warned"
    DISABLED = "disabled"


SENT_TO: Final = frozenset({EndpointState.ACTIVE, EndpointState.FAILING, EndpointState.WARNED})


class Notice(StrEnum):
    """What the holder of a subscription is told, by another way than the webhook."""

    WILL_BE_DISABLED = "will-be-disabled"
    DISABLED = "disabled"
    GONE = "gone"
    RECOVERED = "recovered"


# (state, event) -> state, notice; what is missing changes nothing. ``lasting`` and ``overdue`` are
# failures that go on for ``WARN_AFTER`` and ``DISABLE_AFTER``; ``proven``: the challenge was
# answered; ``reset``: the holder gives another URL or switches it on again.
ENDPOINT_MOVES: Mapping[tuple[EndpointState, str], tuple[EndpointState, Notice | None]] = (
    MappingProxyType(
        {
            (EndpointState.UNPROVEN, "proven"): (EndpointState.ACTIVE, None),
            (EndpointState.UNPROVEN, "reset"): (EndpointState.UNPROVEN, None),
            (EndpointState.ACTIVE, "failed"): (EndpointState.FAILING, None),
            (EndpointState.ACTIVE, "gone"): (EndpointState.DISABLED, Notice.GONE),
            (EndpointState.FAILING, "taken"): (EndpointState.ACTIVE, None),
            (EndpointState.FAILING, "lasting"): (EndpointState.WARNED, Notice.WILL_BE_DISABLED),
            # Nothing was sent while it should have been warned: first the warning.
            (EndpointState.FAILING, "overdue"): (EndpointState.WARNED, Notice.WILL_BE_DISABLED),
            (EndpointState.FAILING, "gone"): (EndpointState.DISABLED, Notice.GONE),
            (EndpointState.WARNED, "taken"): (EndpointState.ACTIVE, Notice.RECOVERED),
            (EndpointState.WARNED, "overdue"): (EndpointState.DISABLED, Notice.DISABLED),
            (EndpointState.WARNED, "gone"): (EndpointState.DISABLED, Notice.GONE),
            (EndpointState.ACTIVE, "reset"): (EndpointState.UNPROVEN, None),
            (EndpointState.FAILING, "reset"): (EndpointState.UNPROVEN, None),
            (EndpointState.WARNED, "reset"): (EndpointState.UNPROVEN, None),
            (EndpointState.DISABLED, "reset"): (EndpointState.UNPROVEN, None),
        }
    )
)


class Due(msgspec.Struct, frozen=True):
    """A delivery after an attempt; ``next`` is when to try again, while it waits."""

    state: DeliveryState
    next: datetime | None


class Endpoint(msgspec.Struct, frozen=True):
    """What is kept of an endpoint: its state, and since when it fails and its holder knows."""

    state: EndpointState = EndpointState.UNPROVEN
    failing_since: datetime | None = None
    warned: datetime | None = None


def heard(status: int | None, error: str | None) -> Heard:
    """What an answer means, by its status and by what went wrong on the way.

    410 stops it whatever follows. A redirect is a failure, for the endpoint has to give its new
    address; so is a 2xx whose body did not come to its end in time, which the receiver may repeat.
    """
    if status == 410:
        return Heard.GONE
    if error is None and status is not None and 200 <= status <= 299:
        return Heard.TAKEN
    return Heard.FAILED


def rest(retry_after: str | None, now: datetime) -> timedelta:
    """How long an endpoint asks to be left alone (RFC 9110 §10.2.3); zero where it does not ask.

    Seconds or a date; what is neither, or lies in the past, asks for nothing. At most
    ``MAX_RETRY_AFTER``.
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        # Cut before it is a number: Python refuses to read thousands of digits.
        return min(timedelta(seconds=int(text[:9])), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return timedelta()
    if moment.tzinfo is None:  # "-0000", which is UTC
        moment = moment.replace(tzinfo=UTC)
    return min(max(moment - now, timedelta()), MAX_RETRY_AFTER)


def after_attempt(
    attempts: int, what: Heard, now: datetime, jitter: float, asked: timedelta = timedelta()
) -> Due:
    """A delivery after an attempt.

    Args:
        attempts: made so far, this one among them; a replay begins at 1 again.
        what: this attempt came to.
        now: its end.
        jitter: a random number from 0 to 1.
        asked: the endpoint's ``rest``; it can put the next attempt off, never bring it forward.
    """
    event: str = what
    if what is Heard.FAILED and attempts > len(RETRIES):
        event = "exhausted"
    state = DELIVERY_MOVES[DeliveryState.WAITING, event]
    if state is not DeliveryState.WAITING:
        return Due(state, None)
    delay = RETRIES[attempts - 1] * (1 + JITTER * jitter)
    return Due(state, now + max(delay, asked))


def after_answer(endpoint: Endpoint, what: Heard, now: datetime) -> tuple[Endpoint, Notice | None]:
    """An endpoint after an attempt, and what its holder is to be told now, once.

    An answer to an attempt that began before the endpoint was disabled or given a new address
    changes nothing.
    """
    moved, notice = ENDPOINT_MOVES.get(
        (endpoint.state, _event(endpoint, what, now)), (endpoint.state, None)
    )
    if moved is endpoint.state and notice is None:
        return endpoint, None
    since = None if moved is EndpointState.ACTIVE else endpoint.failing_since or now
    warned = now if notice is Notice.WILL_BE_DISABLED else endpoint.warned
    return Endpoint(moved, since, warned if since else None), notice


def _event(endpoint: Endpoint, what: Heard, now: datetime) -> str:
    if what is not Heard.FAILED or endpoint.failing_since is None:
        return what
    lasted = now - endpoint.failing_since
    told = endpoint.warned is None or now - endpoint.warned >= NOTICE
    if lasted >= DISABLE_AFTER and told:
        return "overdue"
    return "lasting" if lasted >= WARN_AFTER else what


def after_waiting(endpoint: Endpoint, now: datetime) -> tuple[Endpoint, Notice | None]:
    """An endpoint as time alone moves it: warned and quiet, it is disabled when its time is over.

    The last retry of a message comes before that, and there may be no other message.
    """
    if endpoint.state is not EndpointState.WARNED:
        return endpoint, None
    return after_answer(endpoint, Heard.FAILED, now)


def decided(endpoint: Endpoint, event: str) -> Endpoint:
    """An endpoint after what its holder did: ``proven`` or ``reset``.

    Raises:
        KeyError: the table does not allow it in this state.
    """
    return Endpoint(ENDPOINT_MOVES[endpoint.state, event][0])

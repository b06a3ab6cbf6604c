"""The job of one submitted message: record it and its deliveries, or record the refusal. Pure."""

from collections.abc import Mapping

from msgspec.structs import replace

from hub.intake import admission
from hub.intake.admission import Admitted, Duplicate, Facts, Known, Opened
from hub.intake.batch import Batch, Needs, Outcome, Token
from hub.intake.meter import RefusalMeter
from hub.intake.opening import Opening
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext, message
from schemas.entry import AcceptedPrivate, Recipient, RefusedPrivate
from schemas.kinds.joint_action_notice import JointActionNotice
from schemas.kinds.joint_action_response import JointActionResponse
from schemas.refusal import Refused


class Submission:
    """One envelope of an authenticated participant, opened or refused already at opening."""

    def __init__(
        self,
        opening: Opening[Opened],
        identity: str,
        token: Token | None,
        meter: RefusalMeter,
        messages_per_hour: int,
    ) -> None:
        """Keep what the door found, reading by ``admission.open_envelope``."""
        self.token = token
        self._opening = opening
        self._identity = identity
        self._meter = meter
        self._messages_per_hour = messages_per_hour

    @property
    def _opened(self) -> Opened | Refused:
        return self._opening.found

    def needs(self, needs: Needs) -> None:
        """The message's id, the sender's count, and an answered notice."""
        self._opening.look_again(needs.directory)
        if isinstance(self._opened, Refused):
            return
        sent = self._opened.message
        needs.messages.add(sent.id)
        needs.senders.add(self._identity)
        if sent.in_reply_to is not None and sent.kind.startswith("joint_action_response."):
            needs.notices.add(sent.in_reply_to)

    def decide(self, batch: Batch) -> Outcome:
        """Record the message, or its refusal."""
        batch.use(self.token)
        try:
            if isinstance(self._opened, Refused):
                raise self._opened
            decision = admission.admit(self._opened, self._identity, self._facts(batch))
        except Refused as refusal:
            return self._refuse(batch, refusal)
        if isinstance(decision, Duplicate):
            return Outcome(decision.index, new=False)
        return self._record(batch, self._opened, decision)

    def _facts(self, batch: Batch) -> Facts:
        assert isinstance(self._opened, Opened)
        sent = self._opened.message
        return Facts(
            now=batch.now,
            index=batch.index,
            directory=batch.directory,
            known=batch.facts.messages.get(sent.id),
            notice=batch.facts.notices.get(sent.in_reply_to or ""),
            sent_this_hour=batch.facts.sent.get(self._identity, 0),
            messages_per_hour=self._messages_per_hour,
        )

    def _record(self, batch: Batch, opened: Opened, admitted: Admitted) -> Outcome:
        sent = opened.message
        recipients = {
            code: Recipient(batch.deliver(code), reason)
            for code, reason in admitted.routing.recipients.items()
        }
        private = AcceptedPrivate(
            entries.digest(opened.raw),
            sent.kind,
            sent.marking,
            sent.thread,
            recipients,
            dict(admitted.routing.left_out),
        )
        index = batch.append(
            Draft(entries.MESSAGE_ACCEPTED, sent.sender, sent.id, private=jsontext.encode(private))
        )
        positions = {code: recipient.position for code, recipient in recipients.items()}
        write_message(batch, index, batch.time, opened, positions)
        batch.add_message(index, opened.raw, positions)
        batch.count_sent(sent.sender)
        batch.facts.messages[sent.id] = Known(index, sent.sender, opened.payload_digest)
        self._record_joint_action(batch, opened, admitted, index)
        return Outcome(index)

    def _record_joint_action(
        self, batch: Batch, opened: Opened, admitted: Admitted, index: int
    ) -> None:
        content = message.content(opened.message)
        if isinstance(content, JointActionNotice):
            batch.facts.notices[opened.message.id] = notice_of(
                opened, frozenset(admitted.routing.recipients)
            )
        if isinstance(content, JointActionResponse) and admitted.answer is not None:
            answer = replace(admitted.answer, index=index)
            batch.add_answer(content.notice, answer)
            batch.write(
                "answer",
                idx=index,
                notice=content.notice,
                message_id=answer.message_id,
                time=answer.time,
                member=answer.member,
                answer=answer.answer,
            )

    def _refuse(self, batch: Batch, refusal: Refused) -> Outcome:
        if not self._meter.note(self._identity, batch.now):
            return Outcome(None, refused=refusal)
        if isinstance(self._opened, Opened):
            subject: str | None = self._opened.message.id
        else:
            subject = admission.message_id(self._opening.raw)
        private = RefusedPrivate(refusal.detail, refusal.path, entries.digest(self._opening.raw))
        index = batch.append(
            Draft(
                entries.MESSAGE_REFUSED,
                self._identity,
                subject,
                {"code": refusal.code},
                jsontext.encode(private),
            )
        )
        return Outcome(index, refused=refusal)


def notice_of(opened: Opened, recipients: frozenset[str]) -> admission.Notice:
    """A notice with no answers yet, from its opened message."""
    content = message.content(opened.message)
    assert isinstance(content, JointActionNotice)
    sent = opened.message
    return admission.Notice(sent.sender, opened.jws.payload, sent.audience, content, recipients, [])


class CountedRefusals:
    """One entry for the refusals of a participant that were only counted."""

    token = None

    def __init__(self, code: str, count: int) -> None:
        """So many more refusals in the last minute."""
        self._code = code
        self._count = count

    def needs(self, needs: Needs) -> None:
        """Nothing has to be known."""

    def decide(self, batch: Batch) -> Outcome:
        """Record the count."""
        public: dict[str, object] = {"code": "quota", "count": self._count}
        return Outcome(batch.append(Draft(entries.MESSAGE_REFUSED, self._code, None, public)))


def write_message(
    batch: Batch, index: int, accepted: str, opened: Opened, positions: Mapping[str, int]
) -> None:
    """Add the rows of an accepted message and of a copy for each of its recipients."""
    sent = opened.message
    batch.write(
        "message",
        id=sent.id,
        idx=index,
        sender=sent.sender,
        kind=sent.kind,
        marking=sent.marking,
        thread=sent.thread,
        accepted=accepted,
        expires=sent.expires,
        payload_digest=opened.payload_digest,
        envelope=opened.raw,
    )
    for code, position in positions.items():
        batch.write(
            "delivery",
            recipient=code,
            position=position,
            message_id=sent.id,
            state="waiting",
            expires=sent.expires,
        )

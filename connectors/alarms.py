"""What a connector can find wrong, as one table: how bad it is, what it means, what to do.

A *finding* is one such fact with its evidence; the store keeps each (kind, subject) once, so that
the same alarm is raised once however often it is seen. Some end by themselves: a receipt that was
overdue comes in after all.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from connectors.shown import shown
from schemas.jsontext import Json


class Severity(StrEnum):
    """How bad: somebody cheats or is broken into; something needs a person; good to know."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTICE = "notice"


class Step(StrEnum):
    """What the person who hears of an alarm first can do, in the words of a letter."""

    OTHERS = "others"
    HUB = "hub"
    KEYS = "keys"
    ROTATE = "rotate"
    RECIPIENT = "recipient"
    ANOTHER_WAY = "another-way"
    SENDER = "sender"
    AGAIN = "again"
    UPDATE = "update"
    LINE = "line"
    CERTIFICATE = "certificate"
    WEBHOOK = "webhook"
    LOOK = "look"


class Kind(msgspec.Struct, frozen=True):
    """One row of the table. ``advice`` is for the person who reads it first.

    ``step`` is the beginning of it for whoever reads a letter; ``runbook`` is the page of
    deploy/runbooks that has the kind.
    """

    severity: Severity
    title: str
    advice: str
    step: Step
    runbook: str = "connector-alarm"


class Finding(msgspec.Struct, frozen=True):
    """One thing found. ``subject`` (an id, a code, a position) tells it from others of its kind.

    ``evidence`` holds the signed bytes, in the encodings of the wire, that show it to others.
    """

    kind: str
    subject: str
    sentence: str
    evidence: Mapping[str, Json] = {}

    def __post_init__(self) -> None:
        """Make what the hub may have put into the texts safe to be shown; end with one stop."""
        msgspec.structs.force_setattr(self, "subject", shown(self.subject))
        msgspec.structs.force_setattr(self, "sentence", f"{shown(self.sentence).rstrip('.')}.")

    @property
    def severity(self) -> Severity:
        """The severity of its kind."""
        return KINDS[self.kind].severity


_ASK_OTHERS = (
    "Do not rely on the hub for now. Compare with other institutions by telephone, and keep this "
    "store: it holds the signed evidence."
)
_ASK_HUB = "Ask the hub's operators; the entry in the log says when it was recorded."
_MEND_WEBHOOK = (
    "Nothing is lost: every message is in the inbox, too. See to the program that receives the "
    "webhooks, then test the subscription (`nhri-connector subscription test`), which switches it "
    "on again."
)
_CALL_RECIPIENT = "Ask the recipient by telephone whether it has the message."

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # The log.
        "log-forked": Kind(
            Severity.CRITICAL,
            "The hub showed another history than before",
            _ASK_OTHERS,
            Step.OTHERS,
        ),
        "log-shrank": Kind(
            Severity.CRITICAL,
            "The hub's log became shorter",
            _ASK_OTHERS,
            Step.OTHERS,
        ),
        "log-withheld": Kind(
            Severity.CRITICAL,
            "The hub signed a log that it does not show",
            _ASK_OTHERS,
            Step.OTHERS,
        ),
        "log-key": Kind(
            Severity.CRITICAL,
            "The log is not signed with the key compared at joining",
            "Check hub.url and hub.log in the settings; if they are right, " + _ASK_OTHERS,
            Step.OTHERS,
        ),
        "witness-restored": Kind(
            Severity.WARNING,
            "Our witness key may have cosigned more than this store remembers",
            "Nothing is witnessed until it has a new key: stop the daemon and run `nhri-connector "
            "rotate`. If nothing was restored or copied here, the key is in other hands: call the "
            "hub's operators.",
            Step.ROTATE,
        ),
        "log-unreadable": Kind(
            Severity.WARNING,
            "The log has entries that this program cannot read",
            "Perhaps the hub is newer: update this program.",
            Step.UPDATE,
        ),
        # The directory.
        "directory-impossible": Kind(
            Severity.CRITICAL,
            "The log changes the directory in a way nobody is entitled to",
            "The change is not believed here. " + _ASK_OTHERS,
            Step.OTHERS,
        ),
        "own-keys": Kind(
            Severity.CRITICAL,
            "Keys that are not ours were registered in our name",
            "Tell the other institutions at once by telephone: messages signed with them are not "
            "ours. Then ask the hub's operators.",
            Step.KEYS,
            "connector-entry-unasked",
        ),
        "own-standing": Kind(
            Severity.WARNING,
            "Our membership was changed without our asking",
            _ASK_HUB,
            Step.HUB,
            "connector-entry-unasked",
        ),
        "own-message": Kind(
            Severity.CRITICAL,
            "The log has a message in our name that we did not send",
            "Perhaps it was sent from a store that was lost since. Otherwise our signing key is in "
            "other hands: have the hub's operators hold it.",
            Step.KEYS,
            "connector-entry-unasked",
        ),
        "directory-changed": Kind(
            Severity.NOTICE,
            "The directory changed",
            "See whether you know of it.",
            Step.LOOK,
        ),
        # What we sent.
        "acceptance-broken": Kind(
            Severity.CRITICAL,
            "The hub's acceptance does not hold",
            "The message stays in the outbox and is offered again. " + _ASK_HUB,
            Step.HUB,
        ),
        "refusal-broken": Kind(
            Severity.WARNING,
            "The hub's recorded refusal does not hold",
            _ASK_HUB,
            Step.HUB,
        ),
        "recipient-missing": Kind(
            Severity.CRITICAL,
            "The hub left out a recipient",
            "Send it to them on another way.",
            Step.ANOTHER_WAY,
            "connector-recipient-missing",
        ),
        "recipient-ghost": Kind(
            Severity.CRITICAL,
            "The hub let in somebody who is no recipient",
            "Take the message for known to others. " + _ASK_OTHERS,
            Step.OTHERS,
            "connector-recipient-missing",
        ),
        "routing-differs": Kind(
            Severity.WARNING,
            "The hub gave another reason than ours for a recipient",
            _ASK_HUB,
            Step.HUB,
            "connector-recipient-missing",
        ),
        "outbox-unreadable": Kind(
            Severity.WARNING,
            "A file in the outbox is no message of ours",
            "It was moved to outbox/unreadable; send the message again.",
            Step.AGAIN,
            "connector-outbox-waiting",
        ),
        "outbox-waiting": Kind(
            Severity.WARNING,
            "A message has been waiting in the outbox for long",
            "`nhri-connector doctor` says what keeps it.",
            Step.LINE,
            "connector-outbox-waiting",
        ),
        "sent-erased": Kind(
            Severity.WARNING,
            "The hub erased a message of ours by a decision",
            "What had not been received by then will not come: send it again under a new id, if it "
            "should. The hub's operators say why it was erased.",
            Step.HUB,
        ),
        # What we received.
        "delivery-broken": Kind(
            Severity.CRITICAL,
            "A delivery does not hold: the log does not back it",
            "It is not shown as a message. " + _ASK_HUB,
            Step.HUB,
        ),
        "message-invalid": Kind(
            Severity.CRITICAL,
            "A message was delivered that its sender did not sign, or that breaks the rules",
            "It is not shown as valid, and its sender was told. Ask the sender.",
            Step.SENDER,
        ),
        "message-unreadable": Kind(
            Severity.WARNING,
            "A message is of a kind that this program cannot read",
            "Its sender was told. Update this program, then ask the sender to send it again.",
            Step.UPDATE,
        ),
        "received-erased": Kind(
            Severity.NOTICE,
            "The hub erased a message that we have a copy of",
            "Decide by the institution's own rules whether to erase the copy, too.",
            Step.LOOK,
        ),
        "message-repeated": Kind(
            Severity.WARNING,
            "The log has one message twice",
            "It is shown once. " + _ASK_HUB,
            Step.HUB,
        ),
        "position-gap": Kind(
            Severity.CRITICAL,
            "A position in our inbox was passed over: a message is withheld",
            "It is asked for again and again. " + _ASK_HUB,
            Step.HUB,
            "connector-inbox-gap",
        ),
        "position-differs": Kind(
            Severity.CRITICAL,
            "The hub delivered a message under another position than the log has",
            _ASK_OTHERS,
            Step.OTHERS,
        ),
        "position-repeated": Kind(
            Severity.CRITICAL,
            "The hub gave one position to two messages",
            _ASK_OTHERS,
            Step.OTHERS,
        ),
        "receipt-unrecorded": Kind(
            Severity.WARNING,
            "The hub did not record our receipt as it must",
            _ASK_HUB,
            Step.HUB,
        ),
        # What came back.
        "receipt-overdue": Kind(
            Severity.WARNING,
            "A recipient's receipt is overdue",
            _CALL_RECIPIENT,
            Step.RECIPIENT,
            "connector-receipts-overdue",
        ),
        "receipt-broken": Kind(
            Severity.CRITICAL,
            "A receipt is not signed by its receiver",
            _CALL_RECIPIENT,
            Step.RECIPIENT,
        ),
        "receipt-differs": Kind(
            Severity.CRITICAL,
            "A recipient holds another log entry or position for our message than we do",
            "The hub shows different histories. " + _ASK_OTHERS,
            Step.OTHERS,
        ),
        "receipt-refused": Kind(
            Severity.WARNING,
            "A recipient could not take our message",
            _CALL_RECIPIENT,
            Step.RECIPIENT,
            "connector-receipts-overdue",
        ),
        # The way there.
        "hub-away": Kind(
            Severity.WARNING,
            "The hub has not been reached for long",
            "Nothing is lost. Check the connection, then ask the hub's operators.",
            Step.LINE,
            "connector-hub-away",
        ),
        "hub-refuses": Kind(
            Severity.WARNING,
            "The hub refuses to talk to this connector",
            _ASK_HUB,
            Step.HUB,
            "connector-hub-away",
        ),
        "certificate-ends": Kind(
            Severity.WARNING,
            "The client certificate for the broker ends and was not renewed",
            "It is tried again every day. Otherwise put a new one where link.certificate says: "
            "the hub's operators make it with `nhri-hub ca issue`.",
            Step.CERTIFICATE,
            "certificate-ends",
        ),
        "webhook-failing": Kind(
            Severity.WARNING,
            "A webhook of ours has failed for days",
            _MEND_WEBHOOK,
            Step.WEBHOOK,
            "connector-webhook-failing",
        ),
        "webhook-disabled": Kind(
            Severity.WARNING,
            "A webhook of ours was disabled",
            _MEND_WEBHOOK,
            Step.WEBHOOK,
            "connector-webhook-failing",
        ),
    }
)
"""Every kind of finding; its key is stable, for programs."""

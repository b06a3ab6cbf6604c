"""Every way the hub can say no, as one table.

A refusal has a stable code (for programs), a title (for people) and a detail that says what to do.
``status`` is the HTTP status of the problem document (RFC 9457); ``retryable`` tells a connector to
keep the message and try again, everything else needs a person.
"""

from types import MappingProxyType

import msgspec


class RefusalCode(msgspec.Struct, frozen=True):
    """One row of the table: HTTP status, whether trying again can help, and a short title."""

    status: int
    retryable: bool
    title: str


REFUSALS = MappingProxyType(
    {
        # The bytes are not an envelope of this exchange.
        "malformed": RefusalCode(400, False, "This is not a well-formed envelope"),
        "duplicate-key": RefusalCode(400, False, "A JSON object names the same member twice"),
        "too-large": RefusalCode(413, False, "The envelope is larger than 256 KiB"),
        "bad-header": RefusalCode(400, False, "The protected header is not the one agreed on"),
        # The signatures do not hold.
        "bad-signature": RefusalCode(400, False, "A signature does not verify"),
        "unknown-key": RefusalCode(403, False, "A signature's key is not in the directory"),
        "revoked-key": RefusalCode(403, False, "A signature's key was revoked or replaced"),
        "expired-key": RefusalCode(403, False, "A signature's key has expired"),
        "low-order-key": RefusalCode(422, False, "This key would verify anybody's signature"),
        "sender-unsigned": RefusalCode(403, False, "The sender's own signature is missing"),
        # Who asks.
        "unauthenticated": RefusalCode(401, False, "Who is asking could not be established"),
        "forbidden": RefusalCode(403, False, "This account may not do that"),
        "sender-mismatch": RefusalCode(403, False, "The sender is not the one connected"),
        "suspended": RefusalCode(403, False, "This institution is suspended"),
        "held": RefusalCode(403, True, "This institution's keys await confirmation"),
        "role-may-not-send": RefusalCode(403, False, "This role may not send this marking"),
        # What the message says.
        "schema": RefusalCode(422, False, "The message does not follow its schema"),
        "forbidden-character": RefusalCode(422, False, "A text holds a character not allowed"),
        "unknown-kind": RefusalCode(422, False, "There is no such kind of message"),
        "unsupported-version": RefusalCode(422, False, "This version of the kind is not taken"),
        "sealed-unsupported": RefusalCode(422, False, "Sealed messages are not supported yet"),
        "attachments-unsupported": RefusalCode(422, False, "Attachments are not supported yet"),
        "created-out-of-range": RefusalCode(422, False, "The time of creation is out of range"),
        "expired": RefusalCode(422, False, "The message has expired"),
        "id-conflict": RefusalCode(409, False, "This id already stands for another message"),
        "erased": RefusalCode(410, False, "The message was erased"),
        # Where it goes.
        "unknown-recipient": RefusalCode(422, False, "The audience names nobody we know"),
        "marking-conflict": RefusalCode(422, False, "The marking forbids this audience"),
        "no-recipient": RefusalCode(422, False, "Nobody is left to receive this message"),
        # Joint actions.
        "unknown-action": RefusalCode(422, False, "The joint action answered is not known"),
        "not-invited": RefusalCode(422, False, "This institution was not invited to the action"),
        "not-proposer": RefusalCode(422, False, "Only the proposer can do that"),
        "answer-late": RefusalCode(422, False, "The date to answer by has passed"),
        "action-state": RefusalCode(422, False, "The action's state does not allow this"),
        "bad-cosignature": RefusalCode(422, False, "The signature over the notice does not hold"),
        # Receipts, keys and membership.
        "bad-receipt": RefusalCode(422, False, "The receipt does not match what was delivered"),
        "bad-statement": RefusalCode(422, False, "The key statement does not hold"),
        "unknown-invitation": RefusalCode(403, False, "The invitation is not known, used or over"),
        "conflict": RefusalCode(409, False, "The request does not fit the present state"),
        "not-found": RefusalCode(404, False, "There is nothing here under that name"),
        "bad-request": RefusalCode(400, False, "The request could not be understood"),
        "reason-needed": RefusalCode(422, False, "Reading this takes a stated reason"),
        # The hub cannot take it just now; nothing was written.
        "too-slow": RefusalCode(408, True, "The request did not arrive in time"),
        "quota": RefusalCode(429, True, "Too many messages in too short a time"),
        "busy": RefusalCode(503, True, "The hub is busy; please try again"),
        "storage": RefusalCode(503, True, "The hub cannot store anything at the moment"),
    }
)

RETRY_AFTER = MappingProxyType({429: 60, 503: 10})
"""Seconds until trying again may help, by status."""

TRY_AGAIN = f"try again in {RETRY_AFTER[503]} seconds"
"""What details of refusals with 503 say, in the words of its ``Retry-After``."""

MAX_DETAIL = 500
"""Characters: a refusal that quotes what it refuses must not be as long."""


class Refused(Exception):
    """The one error that admission and every parser raise.

    Args:
        code: a row of ``REFUSALS``.
        detail: a sentence that a person can act on; what it quotes is cut and made printable.
        path: the JSON path of the offending value, where there is one.
    """

    def __init__(self, code: str, detail: str, path: str | None = None) -> None:
        """Keep the parts; the code must be a row of the table."""
        self.row = REFUSALS[code]
        self.code = code
        self.detail = _shown(detail)
        self.path = path
        super().__init__(self.detail)

    def __str__(self) -> str:
        """``code: detail (at path)``, for logs and terminals."""
        return f"{self.code}: {self.detail}" + (f" (at {self.path})" if self.path else "")


def _shown(detail: str) -> str:
    """Safe for a terminal: a quoted name could hold escape sequences or turn the line around."""
    cut = detail if len(detail) <= MAX_DETAIL else f"{detail[:MAX_DETAIL]}…"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)

"""Messages as people read them: opened from their envelopes, in a language they know."""

from collections.abc import Mapping, Sequence

from connectors.store import Reader
from connectors.tables import InboxState
from schemas import message, signature
from schemas.message import Message, Text
from schemas.refusal import Refused

_FALLBACKS = ("en", "ru")


def opened(envelope: bytes) -> Message | None:
    """The message in an envelope; None where there is none to be read. Nothing is verified."""
    try:
        return message.parse(signature.parse(envelope, signature.MESSAGE_TYPE).payload)
    except Refused:
        return None


def known(reader: Reader, message_id: str) -> Message | None:
    """A message that was sent from here or received as valid; None where neither is so."""
    sent = reader.sent(message_id)
    if sent is not None:
        return opened(sent.envelope)
    received = reader.received(message_id)
    if received is not None and received.state is InboxState.VALID:
        return opened(received.envelope)
    return None


def words(texts: Mapping[str, Text], languages: Sequence[str]) -> tuple[str, Text] | None:
    """The text in the first language there is, with its tag.

    A language in another script or of another country comes before another language; when none of
    the wanted ones is there, English, Russian, then any.
    """
    for wanted in (*languages, *_FALLBACKS):
        if wanted in texts:
            return wanted, texts[wanted]
        for tag, text in texts.items():
            if tag.partition("-")[0] == wanted.partition("-")[0]:
                return tag, text
    return next(iter(texts.items()), None)


def is_notice(kind: str | None) -> bool:
    """Whether a kind is that of a joint action's notice, in any version."""
    return (kind or "").startswith("joint_action_notice.")


def title(reader: Reader, read: Message, languages: Sequence[str]) -> str | None:
    """The title of a message; of an answer without words, what it answers to what."""
    found = words(read.texts, languages)
    if found is not None:
        return found[1].title
    answer = str((read.content or {}).get("answer", "")).replace("_", " ")
    answered = known(reader, read.in_reply_to) if read.in_reply_to else None
    about = words(answered.texts, languages) if answered else None
    return f"{answer}: {about[1].title}" if about else answer or None

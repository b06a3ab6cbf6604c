"""Headers of messages that the client's library cannot read.

A member's program writes them, and RabbitMQ passes on whatever it is given: a time in the year
55840, an id that is no UTF-8, tables in tables. The library gives up the connection over one such
header (``pamqp.frame.unmarshal``); the message, which nobody has acknowledged, goes back to its
place in the queue and is the first that the next connection gets, so that nobody's submissions come
through any more. Here it is a message that says nothing of itself: the door knows no sender for it,
and it goes to quarantine.
"""

import struct

import structlog
from pamqp import commands, frame
from pamqp.header import ContentHeader

_FIXED = struct.Struct(">HHQ")
"""Class, weight and size of the body, which the broker itself writes (AMQP 0-9-1, 4.2.6.1)."""

_NAME = "_unmarshal_header_frame"
_read = getattr(frame, _NAME)

log = structlog.get_logger("hub.broker")


def tolerate() -> None:
    """Let every connection of this process go on after such a header."""
    setattr(frame, _NAME, read)  # the library has no other place for it


def read(data: bytes) -> ContentHeader:
    """The header of a message, without properties where those cannot be read."""
    try:
        header: ContentHeader = _read(data)
    except Exception as error:  # noqa: BLE001 - whatever the library makes of a stranger's bytes
        log.warning("broker.header_unreadable", reason=str(error))
        _, weight, size = _FIXED.unpack_from(data)
        return ContentHeader(weight, size, commands.Basic.Properties())
    return header

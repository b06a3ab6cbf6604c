"""Bytes at the door that are no HTTP. aiohttp answers them itself, before any handler of ours."""

import logging

import structlog
from aiohttp import web_response
from aiohttp.http import HttpProcessingError

from hub.doors.service import Service
from schemas.refusal import Refused

log = structlog.get_logger("hub.door")


class Unreadable(logging.Logger):
    """Where aiohttp tells what it could not read.

    Its own lines quote the bytes, tokens among them, with a traceback for each request; they would
    be as many as a stranger likes.
    """

    def __init__(self, hub: Service) -> None:
        """Tell it to the hub's log of strangers."""
        super().__init__("hub.unreadable")
        self._hub = hub

    def handle(self, record: logging.LogRecord) -> None:
        """Count bad requests; what else aiohttp has to say is a fault of ours."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            refusal = Refused("bad-request", "What came is no HTTP request.")
            self._hub.strangers.refused(refusal, "none", self._hub.clock())
        else:
            log.error("door.fault", reason=record.getMessage(), exc_info=record.exc_info)


def hide_versions() -> None:
    """Let these answers, too, name the hub alone: no hook of an application sees them."""
    web_response.SERVER_SOFTWARE = "nhri-hub"  # type: ignore[attr-defined]

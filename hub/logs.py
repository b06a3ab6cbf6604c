"""The hub's log: a line of JSON for each event, on standard error."""

import contextlib
import logging
import os

import msgspec
import structlog


def configure() -> None:
    """Have all of structlog's loggers write so."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(_StandardError()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


class _StandardError:
    """A line that cannot be written is lost: the hub outlives the disk that its log is on."""

    def write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(2, line)

    def flush(self) -> None:
        """Nothing is kept back."""


def _json(event: object, **_: object) -> bytes:
    # What msgspec does not know stands in the log as Python shows it.
    return msgspec.json.encode(event, enc_hook=repr)

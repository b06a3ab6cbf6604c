"""The daemon's log: one JSON line an event on standard error, with names that do not change.

Others follow these lines (the demo does), so that they are an interface: what each event holds is
written here and nowhere else. Texts and secrets are never logged, titles of messages are.
"""

import logging
import sys
from collections.abc import Iterable
from typing import TextIO

import structlog

from connectors.alarms import Finding, Severity
from schemas import trace


class Events:
    """The events of one connector."""

    def __init__(self, code: str, stream: TextIO = sys.stderr) -> None:
        self._log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        ).bind(connector=code)

    def started(self, hub: str, *, encrypted: bool) -> None:
        """The daemon runs."""
        self._log.info("daemon.started", hub=hub)
        if not encrypted:
            self._log.warning("link.unencrypted", hub=hub)

    def stopped(self) -> None:
        """The daemon was asked to stop, and did."""
        self._log.info("daemon.stopped")

    def failed(self, error: Exception) -> None:
        """The daemon cannot run."""
        self._log.error("daemon.failed", detail=str(error))

    def accepted(self, message_id: str, recipients: Iterable[str], index: int) -> None:
        """A message of ours is in the log."""
        self._about(message_id).info("message.accepted", to=sorted(recipients), index=index)

    def refused(self, message_id: str, code: str, detail: str) -> None:
        """A message of ours was refused for good."""
        self._about(message_id).warning("message.refused", code=code, detail=detail)

    def received(
        self, message_id: str, sender: str, kind: str, position: int, title: str | None
    ) -> None:
        """A valid message came in."""
        self._about(message_id).info(
            "message.received", sender=sender, kind=kind, position=position, title=title
        )

    def receipt(self, message_id: str, receiver: str, status: str) -> None:
        """A recipient's signed receipt came in."""
        line = {"status": status, "from": receiver}
        self._about(message_id).info("receipt.received", **line)

    def receipt_sent(self, sender: str, count: int) -> None:
        """The hub recorded our receipt for messages of one sender."""
        self._log.info("receipt.sent", to=sender, count=count)

    def followed(self, size: int) -> None:
        """The log was followed further."""
        self._log.info("log.followed", size=size)

    def certificate_renewed(self, ends: str) -> None:
        """The hub gave us a client certificate, which is used from the next connection on."""
        self._log.info("certificate.renewed", ends=ends)

    def cosigned(self, size: int) -> None:
        """A checkpoint was cosigned, and the hub has the cosignature."""
        self._log.info("log.cosigned", size=size)

    def findings(self, findings: Iterable[Finding]) -> None:
        """Something was found: ``alarm``, or ``notice`` for what is only good to know."""
        for finding in findings:
            if finding.severity is Severity.NOTICE:
                self._log.info("notice", kind=finding.kind, sentence=finding.sentence)
            else:
                self._log.error("alarm", kind=finding.kind, sentence=finding.sentence)

    def mailed(self, count: int) -> None:
        """The mail server took a letter about so many alarms."""
        self._log.info("alarms.mailed", count=count)

    def trouble(self, work: str, error: Exception, delay: float) -> None:
        """Something did not work and is tried again after ``delay`` seconds."""
        self._log.warning("trouble", work=work, detail=str(error), again_in=round(delay, 1))

    def _about(self, message_id: str) -> structlog.typing.FilteringBoundLogger:
        """A line about one message has its id and its trace, by which the hub's lines are found."""
        return self._log.bind(message_id=message_id, trace_id=trace.of_message(message_id))

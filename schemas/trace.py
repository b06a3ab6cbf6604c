"""Trace ids, by which the logs of hub and connectors are joined (W3C Trace Context).

A message's own id is a UUID, and a UUID has the size of a trace id: where nobody gave a trace, that
of a message is its id, and everybody on its way logs the same one without being told. Connectors
say it all the same, so that the hub can name the trace of what it cannot read.
"""

import re

# https://www.w3.org/TR/trace-context/#traceparent-header-field-values; a later version may have
# more fields, each after a dash.
_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}"
    r"(?P<more>-.*)?"
)


def of_traceparent(header: str | None) -> str | None:
    """The trace id (32 hexadecimal digits) of a ``traceparent``; None where it is none.

    A header that is wrong counts as none, as the specification has it.
    """
    found = _TRACEPARENT.fullmatch(header or "")
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
        return None
    if not int(found["trace"], 16) or not int(found["parent"], 16):
        return None
    return found["trace"]


def of_message(message_id: str) -> str:
    """The trace id of a message that came without one."""
    return message_id.replace("-", "")


def traceparent(message_id: str) -> str:
    """The header that names this trace. Its parent, never zero, is the id's random half."""
    trace = of_message(message_id)
    return f"00-{trace}-{trace[16:]}-00"

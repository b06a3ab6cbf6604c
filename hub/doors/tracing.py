"""Which trace a line of the program's log belongs to (W3C Trace Context)."""

from contextlib import AbstractContextManager, nullcontext

from structlog.contextvars import bound_contextvars, get_contextvars

from schemas import trace


def request(traceparent: object) -> AbstractContextManager[None]:
    """Log the trace that the sender's ``traceparent`` names with all that is done for a request.

    What is no ``traceparent`` names none.
    """
    found = trace.of_traceparent(traceparent if isinstance(traceparent, str) else None)
    return nullcontext() if found is None else bound_contextvars(trace_id=found)


def named() -> str | None:
    """The trace that the sender of this request named."""
    found = get_contextvars().get("trace_id")
    return found if isinstance(found, str) else None

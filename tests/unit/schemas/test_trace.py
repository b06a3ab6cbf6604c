"""Trace ids: what counts as a traceparent, and the trace of a message that came without one."""

import pytest

from schemas import trace

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize("header", [f"00-{TRACE}-{PARENT}-01", f"cc-{TRACE}-{PARENT}-00-more"])
def test_a_traceparent_gives_its_trace(header):
    assert trace.of_traceparent(header) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        TRACE,
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-01\n",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0１",
    ],
)
def test_what_the_specification_does_not_allow_is_no_trace(header):
    assert trace.of_traceparent(header) is None


def test_a_message_without_a_trace_is_its_own():
    message = "01890a5d-ac96-774b-bcce-b302099a8057"
    own = trace.of_message(message)
    assert own == "01890a5dac96774bbcceb302099a8057"
    assert trace.of_traceparent(trace.traceparent(message)) == own

"""The picture of who sent to whom: everything in it, nothing on top of the other."""

import re

from hypothesis import given
from hypothesis import strategies as st

from hub.doors.console import flows
from hub.ledger.queries import Flow

CODES = ["kz", "kg", "tj", "tm", "uz", "uz-nhrc", "undp", "ohchr", "ganhri", "apf", "ennhri"]
SOME = st.dictionaries(
    st.tuples(st.sampled_from(CODES), st.sampled_from(CODES)),
    st.integers(1, 1_000_000),
    min_size=1,
).map(lambda found: [Flow(sender, to, copies) for (sender, to), copies in found.items()])


def test_without_flows_there_is_no_picture():
    assert flows.picture([]) is None
    assert flows.table([]) == flows.Table([], [])


def test_a_single_flow_is_one_band_between_two_bars():
    made = flows.picture([Flow("kz", "kg", 3)])
    assert made is not None
    [sender], [recipient], [band] = made.senders, made.recipients, made.bands
    assert (sender.code, recipient.code, band.copies) == ("kz", "kg", 3)
    assert band.path.startswith(f"M{sender.x + made.bar:g} {sender.y:.1f}")
    assert f"V{recipient.y + recipient.height:.1f}" in band.path


@given(SOME)
def test_every_flow_has_a_band_and_every_bar_the_sum_of_its_own(some):
    made = flows.picture(some)
    assert made is not None
    assert {(band.sender, band.recipient, band.copies) for band in made.bands} == {
        (flow.sender, flow.recipient, flow.copies) for flow in some
    }
    for bar in made.senders:
        assert bar.copies == sum(flow.copies for flow in some if flow.sender == bar.code)
    for bar in made.recipients:
        assert bar.copies == sum(flow.copies for flow in some if flow.recipient == bar.code)


@given(SOME)
def test_bars_stand_below_each_other_within_the_picture(some):
    made = flows.picture(some)
    assert made is not None
    for bars in (made.senders, made.recipients):
        ends = [edge for bar in bars for edge in (bar.y, bar.y + bar.height)]
        assert ends == sorted(ends)
        assert 0 < ends[0] < ends[-1] < made.height
        assert all(bar.y < bar.middle < bar.y + bar.height for bar in bars)


@given(SOME)
def test_a_senders_bands_have_its_colour_and_leave_its_bar_one_below_the_other(some):
    made = flows.picture(some)
    assert made is not None
    for bar in made.senders:
        bands = [band for band in made.bands if band.sender == bar.code]
        assert len({band.colour for band in bands}) == 1
        tops = [float(re.findall(r"[\d.]+", band.path)[1]) for band in bands]
        assert tops == sorted(tops)
        assert all(bar.y - 0.1 <= top <= bar.y + bar.height + 0.1 for top in tops)


@given(SOME)
def test_the_table_says_the_same(some):
    made = flows.table(some)
    cells = {
        (sender, recipient): copies
        for sender, row in made.rows
        for recipient, copies in zip(made.recipients, row, strict=True)
        if copies
    }
    assert cells == {(flow.sender, flow.recipient): flow.copies for flow in some}

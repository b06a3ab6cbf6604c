"""Acknowledged alarms: kept as files, of one raising, and never in doubt to the safe side."""

from msgspec.structs import replace

from connectors import acknowledged
from connectors.acknowledged import Acknowledgement
from connectors.tables import Alarm
from tests.builders import time

ALARM = Alarm(7, "log-forked", "1", time(), "It forked.", b"{}", None)
NOTED = Acknowledgement(7, time(), "Called kg.", time(60))


def test_what_was_noted_is_found_again(tmp_path):
    folder = tmp_path / "acknowledged"
    assert acknowledged.read(folder) == {}
    acknowledged.add(folder, NOTED)
    acknowledged.add(folder, replace(NOTED, number=8))
    acknowledged.add(folder, replace(NOTED, note="Called tj."))
    assert acknowledged.read(folder) == {
        7: replace(NOTED, note="Called tj."),
        8: replace(NOTED, number=8),
    }


def test_it_is_of_one_raising_and_one_alarm():
    known = {7: NOTED}
    assert acknowledged.of(ALARM, known) == NOTED
    assert acknowledged.of(replace(ALARM, time=time(1)), known) is None
    assert acknowledged.of(replace(ALARM, number=8), known) is None


def test_a_file_that_cannot_be_read_leaves_its_alarm_open(tmp_path):
    acknowledged.add(tmp_path, NOTED)
    (tmp_path / "8.json").write_text("half a fi")
    (tmp_path / "9.json").mkdir()
    (tmp_path / ".7.json.12").write_text("a draft")
    assert acknowledged.read(tmp_path) == {7: NOTED}

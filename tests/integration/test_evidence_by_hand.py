"""docs/evidence.md, "By hand": the commands that stand there are run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import builders
from tests import evidence as samples

TEXT = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")
BY_HAND = "\n".join(
    re.findall(r"^```sh\n(.*?)^```", TEXT.partition("## By hand")[2], re.MULTILINE | re.DOTALL)
)
VERIFIED = "Signature Verified Successfully"


UNZIP = f"""#!/bin/sh
exec {sys.executable} -m zipfile -e "$2" "$4"
"""
"""For machines without one: the documented call is unzip -q FILE -d FOLDER."""


def run(folder, made):
    (folder / "visit.zip").write_bytes(samples.zipped(made))
    path = os.environ["PATH"]
    if shutil.which("unzip") is None:
        (folder / "unzip").write_text(UNZIP)
        (folder / "unzip").chmod(0o755)
        path = f"{folder}:{path}"
    return subprocess.run(
        ["sh", "-c", BY_HAND],
        cwd=folder,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_verify_good_evidence(tmp_path):
    done = run(tmp_path, samples.evidence())
    assert done.returncode == 0, done.stdout + done.stderr
    # The checkpoint, two witnesses, the message, three statements, two receipts.
    assert done.stdout.count(VERIFIED) == 9
    assert "NOT THE SAME" not in done.stdout
    assert str(builders.LOG) in done.stdout
    assert "from kz, in the log from kz\n" in done.stdout
    assert "received by kg\n" in done.stdout


def test_they_do_without_witnesses_and_receipts(tmp_path):
    done = run(tmp_path, samples.evidence(cosigned_by=(), receipts=("kg",)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(VERIFIED) == 5


@pytest.mark.parametrize("changed", ["envelope", "checkpoint"])
def test_they_stop_at_the_first_thing_that_does_not_hold(tmp_path, changed):
    made = samples.evidence()
    other = {
        "envelope": samples.evidence(
            envelope=builders.signed(builders.message(), builders.key("kg second"))
        ).envelope,
        "checkpoint": made.checkpoint.replace("\n15\n", "\n16\n"),
    }
    done = run(tmp_path, samples.changed(made, **{changed: other[changed]}))
    assert done.returncode != 0
    assert "NOT THE SAME" in done.stdout or "Verification Failure" in done.stdout


def test_they_notice_another_salt(tmp_path):
    made = samples.evidence()
    index = samples.index_of(made, "message.accepted")
    done = run(tmp_path, samples.with_entry(made, index, salt="A" * 43))
    assert done.returncode != 0
    assert done.stdout.endswith("NOT THE SAME\n")

"""The systemd units: right by systemd's own judgement where it is there, and closed up."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hub.delivery import names

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/systemd"
SERVICES = sorted(FOLDER.glob("*.service"))
DAEMONS = {"nhri-hub.service": "hub/app.py", "nhri-connector@.service": "connectors/daemon.py"}

CLOSED = {
    "CapabilityBoundingSet": "",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectHome": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectSystem": "strict",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
}

systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not on this machine: nobody but it can judge a unit",
)


def section(unit: Path, name: str) -> dict[str, list[str]]:
    """The settings of a section; one that stands twice has two values."""
    values: dict[str, list[str]] = {}
    current = ""
    for line in unit.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif current == name and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_service_may_do_nothing_that_it_does_not_need(unit):
    service = section(unit, "Service")
    assert {key: service.get(key) for key in CLOSED} == {k: [v] for k, v in CLOSED.items()}
    assert service["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert set(service["RestrictAddressFamilies"][0].split()) <= {"AF_UNIX", "AF_INET", "AF_INET6"}
    assert service["User"][0] in (FOLDER / "nhri.sysusers").read_text()


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_tells_when_it_is_ready_and_that_it_lives(name):
    service = section(FOLDER / name, "Service")
    assert service["Type"] == ["notify"]
    assert int(service["WatchdogSec"][0]) >= 10
    assert service["Restart"] == ["on-failure"]
    source = (ROOT / DAEMONS[name]).read_text(encoding="utf-8")
    assert "sdnotify.told()" in source, f"{DAEMONS[name]} never tells systemd that it is ready"


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_that_cannot_start_is_left_to_a_person_and_a_runbook(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    [runbook] = re.findall(r"deploy/runbooks/[\w-]+\.md", text)
    assert (ROOT / runbook).exists()
    assert section(FOLDER / name, "Unit")["StartLimitBurst"] == ["5"]


def test_the_hub_has_threads_left_where_name_servers_do_not_answer():
    most = int(section(FOLDER / "nhri-hub.service", "Service")["TasksMax"][0])
    of_the_loop = 32  # as Python makes them, at most
    assert names.MOST + of_the_loop <= most // 4


def test_accounts_have_no_shell():
    lines = (FOLDER / "nhri.sysusers").read_text(encoding="utf-8").splitlines()
    users = [line.split() for line in lines if line.startswith("u ")]
    assert [user[1] for user in users] == ["nhri-hub", "nhri-connector"]
    assert not any("sh" in user[-1] for user in users)


def test_the_log_is_checked_every_night():
    timer = configparser.ConfigParser(interpolation=None)
    timer.read(FOLDER / "nhri-hub-verify.timer")
    assert timer["Timer"]["OnCalendar"] == "*-*-* 02:30:00"
    assert timer["Timer"]["Persistent"] == "yes"


@systemd_analyze
@pytest.mark.parametrize("unit", [*SERVICES, FOLDER / "nhri-hub-verify.timer"], ids=str)
def test_systemd_understands_every_line(unit, tmp_path):
    for other in FOLDER.iterdir():
        # The programs are not installed on this machine; that they are there is checked as well.
        text = re.sub(r"/opt/nhri-exchange/bin/\S+", "/bin/true", other.read_text())
        (tmp_path / other.name.replace("@.", "@kz.")).write_text(text)
    judged = analyze("verify", "--man=no", tmp_path / unit.name.replace("@.", "@kz."))
    assert (judged.stdout, judged.stderr, judged.returncode) == ("", "", 0)


@systemd_analyze
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_the_exposure_is_what_the_documentation_says(unit):
    text = (ROOT / "deploy/README.md").read_text(encoding="utf-8")
    row = rf"^\| \[{re.escape(unit.name)}\]\(\S+\) \| ([\d.]+) \|"
    documented = found(row, text)
    judged = analyze("security", "--offline=true", "--no-pager", unit)
    measured = found(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    here, there = (
        found(r"^systemd (\d+)", analyze("--version").stdout),
        found(r"version (\d+)", text),
    )
    # Other versions look at more, or at less: no more than two tenths apart.
    assert measured == pytest.approx(documented, abs=0 if here == there else 0.2)


def found(pattern: str, text: str) -> float:
    """The number that a pattern finds."""
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, f"no {pattern} in {text}"
    return float(match[1])

"""deploy/setup.sh on machines made of stubs: a PATH of its own and a root of its own."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "setup.sh"
NEEDED = ("sh", "cat", "chmod", "grep", "rm", "tee", "touch", "mkdir", "env")

# What Debian's packages would put there.
INSTALLS = {
    "python3.12-venv": "usr/venv",
    "rabbitmq-server": "usr/lib/rabbitmq/bin/rabbitmq-server",
    "postgresql": "usr/lib/postgresql/15/bin/initdb",
    "chromium": "usr/sbin/chromium",
    "chromium-browser": "usr/sbin/chromium-browser",
    "openssl": "usr/sbin/openssl",
    "nodejs": "usr/sbin/node",
    "prometheus": "usr/sbin/promtool",
    "systemd": "usr/sbin/systemd-analyze",
}

APT_GET = """#!/bin/sh
echo "apt-get $*" >> "$LOG"
[ "$1" = "$FAILS" ] && exit 100
[ "$1" = install ] || exit 0
echo "frontend $DEBIAN_FRONTEND" >> "$LOG"
[ -e "$SETUP_ROOT/usr/sbin/policy-rc.d" ] && { "$SETUP_ROOT/usr/sbin/policy-rc.d" rabbitmq start
    echo "policy $?" >> "$LOG"; }
while [ $# -gt 0 ]; do
    case $1 in
"""


class Machine:
    """A root folder, the programs on the PATH and what was done with them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.programs = folder / "bin"
        self.log = folder / "log"
        (self.root / "usr/sbin").mkdir(parents=True)
        self.programs.mkdir()
        for name in NEEDED:
            (self.programs / name).symlink_to(str(shutil.which(name)))
        self.user(0)
        self.fails = ""

    def program(self, name: str, text: str = "#!/bin/sh\n") -> None:
        """Put a program on the PATH."""
        self.executable(self.programs / name, text)

    def file(self, path: str, text: str = "#!/bin/sh\n") -> None:
        """Put an executable file under the root."""
        self.executable(self.root / path, text)

    def executable(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def user(self, number: int) -> None:
        self.program("id", f"#!/bin/sh\necho {number}\n")

    def debian(self) -> None:
        """apt-get, which notes what it is asked for and puts the programs there, and systemctl."""
        cases = "".join(
            f'        {package}) mkdir -p "${{0%/bin/*}}/root/{Path(path).parent}"\n'
            f'            touch "$SETUP_ROOT/{path}"; chmod 755 "$SETUP_ROOT/{path}" ;;\n'
            for package, path in INSTALLS.items()
        )
        self.program("apt-get", f"{APT_GET}{cases}    esac\n    shift\ndone\n")
        self.program("systemctl", '#!/bin/sh\necho "systemctl $*" >> "$LOG"\n')

    def setup(self, *needs: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", SCRIPT, *needs],
            env={
                "PATH": str(self.programs),
                "SETUP_ROOT": str(self.root),
                "LOG": str(self.log),
                "FAILS": self.fails,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def done(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    @property
    def policy(self) -> Path:
        return self.root / "usr/sbin/policy-rc.d"


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


SERVERS = ("rabbitmq", "postgresql", "chromium", "openssl", "node", "promtool", "systemd")
PACKAGES = (
    "rabbitmq-server",
    "postgresql",
    "chromium",
    "openssl",
    "nodejs",
    "prometheus",
    "systemd",
)


def test_where_everything_is_there_nothing_is_said_or_done(machine):
    machine.debian()
    machine.file(INSTALLS["rabbitmq-server"])
    machine.file(INSTALLS["postgresql"])
    machine.program("chromium")
    machine.program("openssl")
    machine.program("node")
    machine.program("promtool")
    machine.program("systemd-analyze")
    ran = machine.setup(*SERVERS)
    assert (ran.returncode, ran.stdout, ran.stderr, machine.done) == (0, "", "", [])


def test_what_is_missing_is_installed_and_neither_started_nor_enabled(machine):
    machine.debian()
    ran = machine.setup(*SERVERS)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""
    assert machine.done == [
        "apt-get update -qq",
        f"apt-get install -y -qq --no-install-recommends {' '.join(PACKAGES)}",
        "frontend noninteractive",
        "policy 101",
        "systemctl --quiet disable rabbitmq-server",
        "systemctl --quiet disable epmd.socket",
        "systemctl --quiet disable epmd",
        "systemctl --quiet disable postgresql",
        "systemctl --quiet disable prometheus",
    ]
    assert not machine.policy.exists()


def test_only_what_is_missing_is_installed(machine):
    machine.debian()
    machine.file(INSTALLS["postgresql"])
    machine.program("epmd")  # another program's Erlang
    assert machine.setup("rabbitmq", "postgresql").returncode == 0
    assert "apt-get install -y -qq --no-install-recommends rabbitmq-server" in machine.done
    assert [line for line in machine.done if line.startswith("systemctl")] == [
        "systemctl --quiet disable rabbitmq-server"
    ]


def test_a_machine_s_own_policy_on_starting_services_stays(machine):
    machine.debian()
    own = "#!/bin/sh\nexit 104\n"
    machine.file("usr/sbin/policy-rc.d", own)
    assert machine.setup("postgresql").returncode == 0
    assert "policy 104" in machine.done
    assert machine.policy.read_text() == own


def test_a_failed_installation_is_told_and_leaves_no_policy_behind(machine):
    machine.debian()
    machine.fails = "install"
    ran = machine.setup("rabbitmq", "postgresql")
    assert ran.returncode == 1
    assert "apt-get could not install rabbitmq-server postgresql." in ran.stderr
    assert not machine.policy.exists()


def test_a_failed_update_is_told_and_nothing_is_installed(machine):
    machine.debian()
    machine.fails = "update"
    ran = machine.setup("postgresql")
    assert ran.returncode == 1
    assert "apt-get update failed." in ran.stderr
    assert machine.done == ["apt-get update -qq"]


def test_without_root_sudo_installs(machine):
    machine.debian()
    machine.user(1000)
    machine.program("sudo", '#!/bin/sh\necho "sudo $1" >> "$LOG"\nexec "$@"\n')
    assert machine.setup("chromium").returncode == 0
    assert [line for line in machine.done if line.startswith("sudo")] == [
        "sudo apt-get",
        "sudo env",
    ]


def test_without_root_and_sudo_it_says_what_to_install_and_stops(machine):
    machine.debian()
    machine.user(1000)
    ran = machine.setup(*SERVERS)
    assert ran.returncode == 1
    assert ran.stderr == (
        "setup: RabbitMQ 3.10 or newer is missing (rabbitmq-server, rabbitmqctl). "
        "PostgreSQL 13 or newer is missing (initdb, postgres). "
        "Chromium is missing (chromium, chromium-browser or google-chrome). "
        "OpenSSL 3 is missing (openssl). "
        "Node.js 18 or newer is missing (node). "
        "Prometheus's promtool is missing (promtool). "
        "systemd-analyze is missing (systemd). "
        "Install what is missing (on Debian and Ubuntu: "
        "apt-get install rabbitmq-server postgresql chromium openssl nodejs prometheus systemd), "
        "then run make again.\n"
    )
    assert machine.done == []


def test_without_apt_get_it_says_what_to_install_and_stops(machine):
    ran = machine.setup("postgresql")
    assert ran.returncode == 1
    assert "PostgreSQL 13 or newer is missing (initdb, postgres)." in ran.stderr


def test_a_node_that_is_too_old_counts_as_missing(machine):
    machine.program("node", "#!/bin/sh\nexit 1\n")
    ran = machine.setup("node")
    assert ran.returncode == 1
    assert "Node.js 18 or newer is missing (node)." in ran.stderr


def test_ubuntu_has_chromium_by_another_name(machine):
    machine.debian()
    (machine.root / "etc").mkdir()
    (machine.root / "etc/os-release").write_text('NAME="Ubuntu"\nID=ubuntu\n')
    assert machine.setup("chromium").returncode == 0
    assert "apt-get install -y -qq --no-install-recommends chromium-browser" in machine.done


def test_a_package_that_does_not_bring_its_program_is_told(machine):
    machine.debian()
    machine.program("apt-get")
    ran = machine.setup("postgresql")
    assert ran.returncode == 1
    assert "Installed, and still: PostgreSQL 13 or newer is missing" in ran.stderr


def test_a_python_that_can_build_environments_is_printed(machine):
    machine.program("python3")
    ran = machine.setup("python")
    assert (ran.returncode, ran.stdout.strip()) == (0, str(machine.programs / "python3"))


def test_a_python_without_venv_gets_the_package_of_its_version(machine):
    machine.debian()
    machine.program(
        "python3",
        '#!/bin/sh\ncase $2 in *ensurepip*) [ -e "$SETUP_ROOT/usr/venv" ] ;; *print*) '
        "echo python3.12-venv ;; esac\n",
    )
    ran = machine.setup("python")
    assert "apt-get install -y -qq --no-install-recommends python3.12-venv" in machine.done
    assert (ran.returncode, ran.stdout.strip()) == (0, str(machine.programs / "python3"))


def test_no_python_is_told(machine):
    ran = machine.setup("python")
    assert ran.returncode == 1
    assert "no Python 3.11 or newer found" in ran.stderr


def test_an_unknown_need_is_refused(machine):
    ran = machine.setup("rabbitmq", "oracle")
    assert ran.returncode == 1
    assert "'oracle' is none of python, rabbitmq, postgresql, chromium, openssl," in ran.stderr


def test_what_judges_units_is_wanted_only_where_a_distribution_has_it(machine):
    ran = machine.setup("systemd")
    assert (ran.returncode, ran.stderr) == (0, "")
    machine.debian()
    assert machine.setup("systemd").returncode == 0
    assert "apt-get install -y -qq --no-install-recommends systemd" in machine.done

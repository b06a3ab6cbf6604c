"""Compose file and image: structure, secrets, hardening. No container is started here."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from hub import settings as configuration
from hub.delivery import topology
from hub.settings import Settings

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
MEMBERS = ("kz", "kg", "tj", "tm", "uz", "uz-nhrc")
OURS = ("hub", *(f"connector-{code}" for code in MEMBERS))


def of(kind: str, service: dict[str, object]) -> list[object]:
    value = service.get(kind, [])
    return list(value)  # type: ignore[call-overload, no-any-return]


def test_everybody_is_there():
    others = {"rabbitmq", "rabbitmq-2", "rabbitmq-3", "postgresql", "prometheus", "grafana"}
    assert set(SERVICES) == {*OURS, *others}


def test_three_nodes_and_the_institutions_are_choices():
    chosen = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert {name for name in chosen if chosen[name] == ["cluster"]} == {"rabbitmq-2", "rabbitmq-3"}
    assert {name for name in chosen if chosen[name] == ["connectors"]} == set(OURS) - {"hub"}
    assert chosen["hub"] == chosen["rabbitmq"] == chosen["postgresql"] == []


def test_the_nodes_of_a_cluster_are_found_by_their_host_names():
    text = (FOLDER / "rabbitmq-cluster.conf").read_text(encoding="utf-8")
    nodes = re.findall(r"nodes\.\d = rabbit@(\S+)", text)
    names = ["rabbitmq", "rabbitmq-2", "rabbitmq-3"]
    assert nodes == [SERVICES[name]["hostname"] for name in names]


@pytest.mark.parametrize("name", SERVICES)
def test_whatever_a_service_names_is_declared(name):
    service = SERVICES[name]
    assert set(of("networks", service)) <= COMPOSE["networks"].keys()
    assert set(service.get("depends_on", {})) <= SERVICES.keys()
    for secret in of("secrets", service):
        assert (secret["source"] if isinstance(secret, dict) else secret) in COMPOSE["secrets"]
    for volume in of("volumes", service):
        source, target = str(volume).split(":")[:2]
        assert target.startswith("/")
        if source.startswith("."):
            assert (FOLDER / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_others_until_they_are_well(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[other]


@pytest.mark.parametrize("name", [*OURS, "prometheus", "grafana"])
def test_our_containers_write_only_what_they_must_and_gain_nothing(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")


def test_nothing_is_open_to_other_machines():
    for service in SERVICES.values():
        assert all(str(port).startswith("127.0.0.1:") for port in of("ports", service))
    assert COMPOSE["networks"]["backend"] == {"internal": True}
    reached = {name for name, service in SERVICES.items() if "backend" in of("networks", service)}
    assert reached == {"hub", "postgresql", "rabbitmq", "rabbitmq-2", "rabbitmq-3"}


def test_every_image_has_a_version_and_no_registry_s_address():
    for service in SERVICES.values():
        assert re.fullmatch(r"[a-z]+([/-][a-z]+)*:v?\d[\w.-]*", service["image"])


def test_secrets_are_files_that_are_not_kept_here():
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert (FOLDER / ".gitignore").read_text() == "secrets/\n"
    for service in SERVICES.values():
        for name, value in dict(service.get("environment", {})).items():
            assert name.endswith("_FILE") or "PASSWORD" not in name, value


def test_the_readme_makes_every_secret():
    text = (ROOT / "deploy/README.md").read_text(encoding="utf-8")
    made = {Path(secret["file"]) for secret in COMPOSE["secrets"].values()}
    assert {path for path in made if f"secrets/{path.name}" not in text} == set()


def test_the_hub_understands_its_environment(tmp_path):
    path = configuration.initialise(tmp_path, "hub.example.org")
    environment = dict(SERVICES["hub"]["environment"])
    for name in [name for name in environment if name.endswith("_FILE")]:
        file = tmp_path / name
        file.write_text(f"{name}\n")
        environment[name] = str(file)
    loaded = configuration.load(path, environment)
    assert isinstance(loaded, Settings)
    assert loaded.http.host == "0.0.0.0"  # noqa: S104 - in a container, behind its own network
    assert loaded.url == "https://hub.example.org"
    assert (loaded.store.url, loaded.broker.url) == ("NHRI_STORE_URL_FILE", "NHRI_BROKER_URL_FILE")


@pytest.mark.parametrize("file", ["compose/rabbitmq.conf", "README.md", "tls/README.md"])
def test_rabbitmq_is_told_everywhere_how_large_a_message_may_be(file):
    lines = (FOLDER.parent / file).read_text(encoding="utf-8").splitlines()
    assert f"max_message_size = {topology.MAX_MESSAGE}" in lines


# --- The image ---

CONTAINERFILE = (FOLDER / "Containerfile").read_text(encoding="utf-8")


def instructions(text: str) -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    lines = [line.strip() for line in joined.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_is_built_in_stages_from_the_hashed_lock_and_runs_as_nobody():
    steps = instructions(CONTAINERFILE)
    assert [rest for word, rest in steps if word == "FROM"] == ["${BASE} AS build", "${BASE}"]
    installs = [rest for word, rest in steps if word == "RUN" and "pip install" in rest]
    assert all("--require-hashes" in rest or "--no-deps" in rest for rest in installs)
    user = [rest for word, rest in steps if word == "USER"]
    assert user == ["10001:10001"]
    assert "://" not in CONTAINERFILE


def test_what_the_image_copies_is_here():
    for word, rest in instructions(CONTAINERFILE):
        if word == "COPY" and "--from" not in rest:
            *sources, _ = rest.split()
            assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_image_holds_what_the_project_needs_to_run_and_no_test_tool():
    ran = subprocess.run(
        [sys.executable, FOLDER / "runtime_lock.py", "pyproject.toml", "requirements.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = re.findall(r"^([\w.-]+)==", ran.stdout, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[^\w-]", text)[0] for text in project["dependencies"]}
    assert wanted <= set(names)
    assert {"pytest", "hypothesis", "mypy", "ruff", "schemathesis"}.isdisjoint(names)
    # Whole pins of the lock, each with its hashes.
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=\w)", ran.stdout, flags=re.MULTILINE)[1:]
    assert all(block in lock and "--hash=sha256:" in block for block in blocks)

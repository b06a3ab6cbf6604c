"""Compose file and image: structure, secrets, hardening. No container is started here."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from yarl import URL

from connectors import config as connector
from hub import certificates
from hub import settings as configuration
from hub.delivery import topology
from hub.settings import Settings
from schemas import amqp
from tests import builders
from tests.integration import test_amqps

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
MEMBERS = ("kz", "kg", "tj", "tm", "uz", "uz-nhrc")
BROKERS = ("rabbitmq", "rabbitmq-2", "rabbitmq-3")
OURS = ("hub", *(f"connector-{code}" for code in MEMBERS))


def of(kind: str, service: dict[str, object]) -> list[object]:
    value = service.get(kind, [])
    return list(value)  # type: ignore[call-overload, no-any-return]


def test_everybody_is_there():
    assert set(SERVICES) == {*OURS, *BROKERS, "postgresql", "prometheus", "grafana"}


def test_three_nodes_and_the_institutions_are_choices():
    chosen = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert {name for name in chosen if chosen[name] == ["cluster"]} == {"rabbitmq-2", "rabbitmq-3"}
    assert {name for name in chosen if chosen[name] == ["connectors"]} == set(OURS) - {"hub"}
    assert chosen["hub"] == chosen["rabbitmq"] == chosen["postgresql"] == []


def test_the_nodes_of_a_cluster_are_found_by_their_host_names():
    text = (FOLDER / "rabbitmq-cluster.conf").read_text(encoding="utf-8")
    nodes = re.findall(r"nodes\.\d = rabbit@(\S+)", text)
    assert nodes == [SERVICES[name]["hostname"] for name in BROKERS]


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
    assert on("backend") == {"hub", "postgresql", *BROKERS}


def on(network: str) -> set[str]:
    return {name for name, service in SERVICES.items() if network in of("networks", service)}


# --- Members at the broker ---


def conf(name: str) -> dict[str, str]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split(" = ") for line in lines if line and not line.startswith("#"))


def test_connectors_reach_the_broker_and_not_the_database():
    connectors = {f"connector-{code}" for code in MEMBERS}
    assert on("amqps") == {*connectors, *BROKERS}
    assert on("backend").isdisjoint(connectors)
    assert on("exchange") >= connectors


@pytest.mark.parametrize("code", MEMBERS)
def test_a_connector_speaks_amqps_with_its_own_certificate(code, tmp_path):
    path = tmp_path / f"{code}.toml"
    path.write_text(connector.template(code, "https://elsewhere.example", str(builders.LOG)))
    link = connector.load(path, SERVICES[f"connector-{code}"]["environment"]).link
    address = URL(link.amqp)
    assert (address.scheme, address.user, address.password) == ("amqps", code, None)
    assert (address.host, address.path) == ("rabbitmq", f"/{amqp.VHOST}")
    assert link.certificate == str(tmp_path / f"{code}.pem")
    assert Path(link.ca).parts == ("/", "run", "secrets", "authority")
    assert "authority" in SERVICES[f"connector-{code}"]["secrets"]


def test_the_broker_takes_certificates_as_the_tests_of_a_real_one_have_it():
    tested = dict(line.split(" = ") for line in test_amqps.SETTINGS.splitlines())
    files = {"cacertfile", "certfile", "keyfile"}
    mine = conf("rabbitmq-tls.conf")
    for key, value in tested.items():
        if key.rpartition(".")[2] not in files and not key.startswith("listeners"):
            assert mine[key] == value
    assert mine["listeners.ssl.default"] == "5671"
    assert "rabbitmq_auth_mechanism_ssl" in (FOLDER / "rabbitmq-plugins").read_text("utf-8")


@pytest.mark.parametrize("name", BROKERS)
def test_every_node_has_the_listener_its_plugin_and_the_files_that_it_names(name):
    service = SERVICES[name]
    mounted = {str(volume).split(":")[1] for volume in service["volumes"]}
    assert {"/etc/rabbitmq/conf.d/22-tls.conf", "/etc/rabbitmq/enabled_plugins"} <= mounted
    targets = {secret["target"] for secret in service["secrets"]}
    wanted = {v for k, v in conf("rabbitmq-tls.conf").items() if k.endswith("file")}
    assert wanted == {target for target in targets if "/tls/" in target}


def test_the_listener_is_what_the_page_on_tls_says():
    page = (ROOT / "deploy/tls/README.md").read_text(encoding="utf-8")
    lines = page.partition("```ini\n")[2].partition("```")[0].splitlines()
    documented = {
        key: value for key, value in (line.split(" = ") for line in lines) if "/" not in value
    }
    # There the hub shows a certificate as well, so that nobody needs a password or a bare line.
    assert documented.pop("listeners.tcp") == "none"
    assert documented.items() <= (conf("rabbitmq.conf") | conf("rabbitmq-tls.conf")).items()


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
    # As `ca init` calls its files, beside the settings.
    assert loaded.authority.certificate == certificates.CERTIFICATE_FILE
    assert loaded.authority.key == certificates.KEY_FILE


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

"""The kustomize base: built where kubectl is there, its objects checked one by one."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from hub import settings as configuration

FOLDER = Path(__file__).parents[3] / "deploy/kubernetes/base"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
KINDS = {
    "Namespace": "v1",
    "ServiceAccount": "v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}
OBJECTS = [
    found
    for name in KUSTOMIZATION["resources"]
    for found in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
]
[SET] = [found for found in OBJECTS if found["kind"] == "StatefulSet"]
POD = SET["spec"]["template"]["spec"]
CONTAINERS = [*POD["initContainers"], *POD["containers"]]


def test_every_file_is_named_and_every_name_has_its_file():
    named = set(KUSTOMIZATION["resources"])
    named |= {file for made in KUSTOMIZATION["configMapGenerator"] for file in made["files"]}
    assert named == {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml"}


def test_every_object_has_kind_version_name_and_content():
    for found in OBJECTS:
        assert found["apiVersion"] == KINDS[found["kind"]]
        assert found["metadata"]["name"]
        assert "spec" in found or found["kind"] in {"Namespace", "ServiceAccount"}
    assert {found["kind"] for found in OBJECTS} == set(KINDS)


def test_what_selects_the_hub_selects_its_pods():
    labels = SET["spec"]["template"]["metadata"]["labels"]
    assert SET["spec"]["selector"]["matchLabels"] == labels
    [service] = [found for found in OBJECTS if found["kind"] == "Service"]
    assert service["spec"]["selector"] == labels
    [budget] = [found for found in OBJECTS if found["kind"] == "PodDisruptionBudget"]
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["maxUnavailable"] < SET["spec"]["replicas"]
    assert SET["spec"]["serviceName"] == service["metadata"]["name"]


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container["name"])
def test_a_container_may_do_nothing_that_it_does_not_need(container):
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    volumes = {volume["name"] for volume in POD["volumes"]}
    claims = {claim["metadata"]["name"] for claim in SET["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes | claims


def test_the_pod_is_nobody_and_asks_the_cluster_nothing():
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    [namespace] = [found for found in OBJECTS if found["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_store_that_fails_makes_a_hub_unready_and_does_not_end_it():
    [hub] = POD["containers"]
    assert hub["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert hub["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert hub["startupProbe"]["httpGet"] == {"path": "/livez", "port": "http"}


def test_nothing_may_speak_but_what_is_listed():
    policies = {f["metadata"]["name"]: f["spec"] for f in OBJECTS if f["kind"] == "NetworkPolicy"}
    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert {port["port"] for rule in policies["nhri-hub"]["ingress"] for port in rule["ports"]} == {
        8080
    }
    assert {port["port"] for rule in policies["nhri-hub"]["egress"] for port in rule["ports"]} == {
        53,
        5432,
        5671,
        5672,
    }
    assert all(rule["to"] for rule in policies["nhri-hub"]["egress"])


def test_secrets_are_named_and_not_contained():
    assert not any(found["kind"] == "Secret" for found in OBJECTS)
    assert "secretGenerator" not in KUSTOMIZATION
    secrets = {v["secret"]["secretName"] for v in POD["volumes"] if "secret" in v}
    assert secrets == {"nhri-hub"}
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    for volume in (v["secret"] for v in POD["volumes"] if "secret" in v):
        assert all(f"--from-file={item['key']}" in readme for item in volume["items"])


def test_distrust_and_what_was_erased_outlive_the_pod_and_keys_do_not_touch_a_disk():
    [hub] = POD["containers"]
    mounted = {mount["mountPath"]: mount["name"] for mount in hub["volumeMounts"]}
    folder = str(Path(hub["args"][hub["args"].index("--config") + 1]).parent)
    [claim] = SET["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == mounted[folder]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    made = configuration.load(FOLDER / "hub.toml", {})
    kept = replace(made, folder=folder)
    for path in (kept.damaged, kept.erasures, kept.restored, kept.lost):
        assert str(path.parent) == folder
    for path in (kept.log_key_path, Path(folder) / kept.authority.key):
        [volume] = [v for v in POD["volumes"] if v["name"] == mounted[str(path.parent)]]
        assert volume["emptyDir"]["medium"] == "Memory"


def test_every_key_that_the_settings_name_is_put_there(tmp_path):
    made = configuration.load(FOLDER / "hub.toml", {})
    named = {made.log.key, made.authority.certificate, made.authority.key}
    named |= {"/run/nhri/hub.pem", "/run/nhri/hub-key.pem"}  # in the address of the broker
    [files] = POD["initContainers"]
    keys = [v["secret"] for v in POD["volumes"] if v["name"] == "secret-keys"]
    assert {Path(name).name for name in named} == {i["path"] for i in keys[0]["items"]}
    folders = {"/var/lib/nhri": "state", "/run/nhri": "keys", "/config": "c", "/secret": "s"}
    [script] = files["args"]
    for name, short in folders.items():
        (tmp_path / short).mkdir()
        script = script.replace(name, str(tmp_path / short))
    (tmp_path / "c/hub.toml").touch()
    for name in named:
        (tmp_path / "s" / Path(name).name).touch()
    subprocess.run([*files["command"], script], check=True)
    for path in [tmp_path / "state/hub.toml", *(tmp_path / "keys" / Path(n).name for n in named)]:
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_hub_understands_its_settings_and_its_environment(tmp_path):
    [hub] = POD["containers"]
    environment = {}
    for row in hub["env"]:
        file = tmp_path / row["name"]
        file.write_text("postgresql://x")
        environment[row["name"]] = str(file)
    loaded = configuration.load(FOLDER / "hub.toml", environment)
    assert (loaded.store.url, loaded.broker.url) == ("postgresql://x", "postgresql://x")
    assert loaded.http.port == hub["ports"][0]["containerPort"]
    assert loaded.log_key_path.name == "log.pem"


@pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="kubectl is not on this machine: the base is parsed, but not built",
)
def test_kustomize_builds_it():
    built = subprocess.run(
        ["kubectl", "kustomize", FOLDER], capture_output=True, text=True, timeout=60, check=False
    )
    assert built.returncode == 0, built.stderr
    objects = list(yaml.safe_load_all(built.stdout))
    assert len(objects) == len(OBJECTS) + 1  # and the ConfigMap
    [config] = [found for found in objects if found["kind"] == "ConfigMap"]
    [pods] = [found for found in objects if found["kind"] == "StatefulSet"]
    mounted = [
        v["configMap"]["name"]
        for v in pods["spec"]["template"]["spec"]["volumes"]
        if "configMap" in v
    ]
    assert mounted == [config["metadata"]["name"]]
    assert all(found["metadata"].get("namespace") == "nhri-exchange" for found in objects[1:])

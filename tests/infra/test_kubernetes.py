"""The manifests: valid for Kubernetes, locked down, and in step with policies, pools and job template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prefect_kubernetes.settings import KubernetesSettings

from flows.deploy.deployments import pools
from regiolect.policy import PolicyBook

KUBERNETES = "1.34"
WORKERS = ("worker-control", "worker-cpu-x86", "worker-gpu")


@pytest.fixture(scope="module")
def listed(infra: Path) -> list[str]:
    names: list[str] = yaml.safe_load((infra / "k8s" / "kustomization.yaml").read_text())["resources"]
    return names


@pytest.fixture(scope="module")
def manifests(infra: Path, listed: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
    every = [item for name in listed for item in yaml.safe_load_all((infra / "k8s" / name).read_text())]
    found = {(item["kind"], item["metadata"]["name"]): item for item in every}
    assert len(found) == len(every)
    return found


@pytest.fixture(scope="module")
def template(infra: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((infra / "work_pools" / "kubernetes.json").read_text())
    return loaded


def test_every_file_is_in_the_kustomization(infra: Path, listed: list[str]) -> None:
    assert {path.name for path in (infra / "k8s").glob("*.yaml")} == {*listed, "kustomization.yaml"}


def test_kubernetes_takes_them(manifests: dict[tuple[str, str], dict[str, Any]]) -> None:
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "regiolect"


def test_each_region_has_a_service_account_with_its_own_role(
    manifests: dict[tuple[str, str], dict[str, Any]], regions: frozenset[str]
) -> None:
    accounts = {name: item for (kind, name), item in manifests.items() if kind == "ServiceAccount"}
    jobs = {f"regiolect-{name}" for name in (*regions, "control")}
    assert set(accounts) == {*jobs, "regiolect-worker"}
    for name in jobs:
        role = accounts[name]["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
        assert role.endswith(f":role/acme-{name}")
        assert accounts[name]["automountServiceAccountToken"] is False
    # Workers make jobs but reach no bucket.
    assert "annotations" not in accounts["regiolect-worker"]["metadata"]


def test_only_workers_may_do_anything_in_kubernetes(manifests: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert not [name for kind, name in manifests if kind.startswith("Cluster")]
    [binding] = [item for (kind, _), item in manifests.items() if kind == "RoleBinding"]
    assert [subject["name"] for subject in binding["subjects"]] == ["regiolect-worker"]
    [role] = [item for (kind, _), item in manifests.items() if kind == "Role"]
    for rule in role["rules"]:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "secrets" not in rule["resources"]


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_serves_a_pool_and_is_locked_down(name: str, manifests: dict[tuple[str, str], dict[str, Any]]) -> None:
    deployment = manifests["Deployment", name]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    arguments = container["args"]
    assert arguments[:3] == ["prefect", "worker", "start"]
    assert arguments[arguments.index("--type") + 1] == "kubernetes"
    assert arguments[arguments.index("--pool") + 1] in {pool.name for pool in pools(PolicyBook())}
    assert pod["serviceAccountName"] == "regiolect-worker"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not container["image"].endswith(":latest") and ":" in container["image"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/health" and "--with-healthcheck" in arguments
    # It makes jobs that ask for GPUs and needs none itself.
    assert "nvidia.com/gpu" not in container["resources"].get("limits", {})


def test_each_pool_of_the_policies_has_a_worker(manifests: dict[tuple[str, str], dict[str, Any]]) -> None:
    served = {
        container["args"][container["args"].index("--pool") + 1]
        for (kind, _), item in manifests.items()
        if kind == "Deployment"
        for container in item["spec"]["template"]["spec"]["containers"]
    }
    assert served == {pool.name for pool in pools(PolicyBook())}


def test_jobs_find_the_settings_and_namespace_that_their_template_names(
    manifests: dict[tuple[str, str], dict[str, Any]], template: dict[str, Any]
) -> None:
    job = template["job_configuration"]["job_manifest"]
    [container] = job["spec"]["template"]["spec"]["containers"]
    source, logins = container["envFrom"]
    settings = manifests["ConfigMap", source["configMapRef"]["name"]]
    assert {"PREFECT_API_URL", "MLFLOW_TRACKING_URI", "REGIOLECT_STORE"} <= set(settings["data"])
    assert "{region}" in settings["data"]["REGIOLECT_STORE"]
    assert ("Namespace", job["metadata"]["namespace"]) in manifests
    # Workers log in with the same.
    for name in WORKERS:
        [worker] = manifests["Deployment", name]["spec"]["template"]["spec"]["containers"]
        assert worker["envFrom"] == [source, logins]


def test_no_login_is_written_down(manifests: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert not [name for kind, name in manifests if kind == "Secret"]
    settings = manifests["ConfigMap", "regiolect"]["data"]
    assert not [name for name in settings if name.endswith(("AUTH_STRING", "PASSWORD", "USERNAME"))]


@pytest.mark.parametrize("name", WORKERS)
def test_a_job_refers_to_the_login_and_does_not_hold_it(
    name: str, manifests: dict[tuple[str, str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's worker gives its own login to every job that it makes."""
    [worker] = manifests["Deployment", name]["spec"]["template"]["spec"]["containers"]
    for each in worker["env"]:
        monkeypatch.setenv(each["name"], each["value"])
    settings = KubernetesSettings().worker
    logins = worker["envFrom"][1]["secretRef"]["name"]
    assert (settings.api_auth_string_secret_name, settings.api_auth_string_secret_key) == (
        logins,
        "PREFECT_API_AUTH_STRING",
    )


def test_no_worker_holds_the_signing_key(manifests: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Runs of the pool control get it by their job template; their workers only start them."""
    for name in WORKERS:
        assert "signing" not in json.dumps(manifests["Deployment", name])

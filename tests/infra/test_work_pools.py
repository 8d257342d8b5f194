"""The base job templates, judged by Prefect's own workers, schema checks and Kubernetes' schema."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes_validate
import prefect
import pytest
from docker.models.containers import RUN_CREATE_KWARGS, RUN_HOST_CONFIG_KWARGS
from docker.types import HostConfig
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.schema_tools import ValidationError, is_valid_schema, validate
from prefect.utilities.templating import find_placeholders
from prefect.workers.base import BaseJobConfiguration
from prefect.workers.process import ProcessWorker
from prefect_docker.worker import DockerWorker
from prefect_kubernetes.worker import KubernetesWorker

from flows.deployments import deployments
from regiolect.policy import PolicyBook
from regiolect.settings import Settings

WORKERS = {"process": ProcessWorker, "docker": DockerWorker, "kubernetes": KubernetesWorker}
IMAGE = "registry.example.com:5000/regiolect-worker:0.1.0"
NEEDED: dict[str, dict[str, Any]] = {
    "process": {},
    "docker": {"image": IMAGE},
    "kubernetes": {"image": IMAGE, "service_account_name": "regiolect-eu"},
}
KUBERNETES = "1.34"

every_type = pytest.mark.parametrize("kind", sorted(WORKERS))


@pytest.fixture(scope="session")
def templates(infra: Path) -> dict[str, dict[str, Any]]:
    return {kind: json.loads((infra / "work_pools" / f"{kind}.json").read_text()) for kind in WORKERS}


def check(template: dict[str, Any], values: dict[str, Any]) -> None:
    """What a Prefect server does with a run's job variables before it takes the run."""
    properties = template["variables"]["properties"]
    defaults = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
    validate(
        {**defaults, **values},
        template["variables"],
        raise_on_error=True,
        preprocess=True,
        allow_none_with_default=True,
    )


def render(kind: str, template: dict[str, Any], values: dict[str, Any]) -> Any:
    """What the type's own worker makes of the template for one run."""
    configuration: type[BaseJobConfiguration] = WORKERS[kind].job_configuration
    # Neither blocks nor Prefect variables are named, so the client is never called.
    client = PrefectClient(api="http://127.0.0.1:9/api")
    rendered = asyncio.run(configuration.from_template_and_values(template, {**NEEDED[kind], **values}, client=client))
    rendered.prepare_for_flow_run(FlowRun(id=uuid4(), name="calm-otter", flow_id=uuid4()))
    return rendered


@every_type
def test_the_worker_knows_every_key(kind: str, templates: dict[str, dict[str, Any]]) -> None:
    collections = json.loads(
        Path(prefect.__file__)
        .parent.joinpath("server", "api", "collections_data", "views", "aggregate-worker-metadata.json")
        .read_text()
    )
    [told] = [types[kind]["default_base_job_configuration"] for types in collections.values() if kind in types]
    keys = set(templates[kind]["job_configuration"])
    assert keys <= set(WORKERS[kind].job_configuration.model_fields)
    # The server's list is of an older Docker worker, which had no container_create_kwargs yet.
    assert keys - {"container_create_kwargs"} <= set(told["job_configuration"])


@every_type
def test_every_placeholder_is_declared_and_every_variable_used(kind: str, templates: dict[str, dict[str, Any]]) -> None:
    template = templates[kind]
    used = {placeholder.name for placeholder in find_placeholders(template["job_configuration"])}
    if isinstance(template["job_configuration"]["env"], dict):
        # Prefect adds the variable to what is written there.
        used.add("env")
    assert used == set(template["variables"]["properties"])


@every_type
def test_the_schema_is_one_and_its_defaults_satisfy_it(kind: str, templates: dict[str, dict[str, Any]]) -> None:
    is_valid_schema(templates[kind]["variables"], preprocess=False)
    check(templates[kind], NEEDED[kind])
    for name, schema in templates[kind]["variables"]["properties"].items():
        assert schema["title"] and schema["description"].endswith("."), name


@every_type
def test_the_variables_of_every_deployment_are_taken(kind: str, templates: dict[str, dict[str, Any]]) -> None:
    settings = Settings(image=IMAGE, image_gpu=IMAGE)
    every = [deployment.job_variables(kind, settings) for deployment in deployments(PolicyBook())]
    distinct = {json.dumps(variables, sort_keys=True): variables for variables in every}
    assert distinct
    for variables in distinct.values():
        assert set(variables) <= set(templates[kind]["variables"]["properties"])
        check(templates[kind], variables)
        render(kind, templates[kind], variables)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("docker", {"image": "regiolect-worker"}),
        ("docker", {"image": "regiolect-worker:latest"}),
        ("docker", {"image": "registry.example.com:5000/regiolect-worker"}),
        ("docker", {"gpus": 1}),
        ("docker", {"memory": "8Gi"}),
        ("docker", {"volumes": ["data:/data"]}),
        ("docker", {"device_requests": [{"Count": "1", "Capabilities": [["gpu"]]}]}),
        ("kubernetes", {"image": "regiolect-worker:latest"}),
        ("kubernetes", {"gpu": 1}),
        ("kubernetes", {"gpus": -1}),
        ("kubernetes", {"gpus": "1"}),
        ("kubernetes", {"memory": "8g"}),
        ("kubernetes", {"cpu": "two"}),
        ("kubernetes", {"service_account_name": "Regiolect EU"}),
        ("kubernetes", {"tolerations": [{"key": "nvidia.com/gpu", "efect": "NoSchedule"}]}),
    ],
)
def test_the_server_refuses_what_would_be_ignored_or_fail_later(
    kind: str, wrong: dict[str, Any], templates: dict[str, dict[str, Any]]
) -> None:
    with pytest.raises(ValidationError):
        check(templates[kind], {**NEEDED[kind], **wrong})


@pytest.mark.parametrize(
    ("kind", "missing"), [("docker", "image"), ("kubernetes", "image"), ("kubernetes", "service_account_name")]
)
def test_a_run_needs_its_image_and_account(kind: str, missing: str, templates: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(ValidationError, match=missing):
        check(templates[kind], {name: value for name, value in NEEDED[kind].items() if name != missing})


def test_one_variable_of_the_environment_can_be_set_by_name(templates: dict[str, dict[str, Any]]) -> None:
    check(templates["kubernetes"], {**NEEDED["kubernetes"], "env.REGIOLECT_HOME": "/scratch/other"})
    job = render("kubernetes", templates["kubernetes"], {"env.REGIOLECT_HOME": "/scratch/other"}).job_manifest
    environment = [(item["name"], item["value"]) for item in container_of(job)["env"]]
    assert [value for name, value in environment if name == "REGIOLECT_HOME"] == ["/scratch/other"]


def test_a_process_runs_in_its_folder_with_its_environment(
    templates: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    rendered = render("process", templates["process"], {"working_dir": str(tmp_path), "env": {"A": "1"}})
    assert rendered.working_dir == tmp_path
    assert rendered.env["A"] == "1"
    assert rendered.stream_output is True


def test_a_container_is_locked_down_and_can_write_to_scratch_alone(templates: dict[str, dict[str, Any]]) -> None:
    rendered = render("docker", templates["docker"], {"env": {"A": "1"}})
    options = rendered.container_create_kwargs
    # docker-py raises for options that it does not know, and for values that are of another type than Docker's.
    assert set(options) <= {*RUN_CREATE_KWARGS, *RUN_HOST_CONFIG_KWARGS}
    host = HostConfig(
        version="1.44",
        mem_limit=rendered.mem_limit,
        binds=rendered.volumes,
        **{name: value for name, value in options.items() if name in RUN_HOST_CONFIG_KWARGS},
    )
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == 8 << 30
    assert host["NanoCpus"] == 2_000_000_000
    assert host["DeviceRequests"] == []
    assert host["Binds"] == ["/scratch"]
    assert not rendered.privileged
    assert options["user"] == "10001:10001"
    written = {"HOME": "/scratch", "TMPDIR": "/scratch", "REGIOLECT_HOME": "/scratch/regiolect", "A": "1"}
    assert written.items() <= rendered.env.items()


def test_a_container_gets_the_gpu_that_it_asks_for(templates: dict[str, dict[str, Any]]) -> None:
    asked = {"device_requests": [{"Count": 1, "Capabilities": [["gpu"]]}]}
    check(templates["docker"], {**NEEDED["docker"], **asked})
    requests = render("docker", templates["docker"], asked).container_create_kwargs["device_requests"]
    [request] = HostConfig(version="1.44", device_requests=requests)["DeviceRequests"]
    assert request["Count"] == 1 and request["Capabilities"] == [["gpu"]]


def container_of(job: dict[str, Any]) -> dict[str, Any]:
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "gpus": 1,
            "cpu": "500m",
            "env": {"A": "1"},
            "node_selector": {"nvidia.com/gpu.product": "Tesla-T4"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "job_watch_timeout_seconds": 3600,
        },
    ],
)
def test_a_job_is_one_that_kubernetes_takes(values: dict[str, Any], templates: dict[str, dict[str, Any]]) -> None:
    check(templates["kubernetes"], {**NEEDED["kubernetes"], **values})
    job = render("kubernetes", templates["kubernetes"], values).job_manifest
    kubernetes_validate.validate(job, KUBERNETES)
    # Prefect's worker insists on these two in the pod, where Kubernetes does not know them and drops them.
    for stray in ("parallelism", "completions"):
        assert job["spec"]["template"]["spec"].pop(stray) == 1
    kubernetes_validate.validate(job, KUBERNETES, strict=True)


def test_a_job_is_locked_down_and_can_write_to_scratch_alone(templates: dict[str, dict[str, Any]]) -> None:
    job = render("kubernetes", templates["kubernetes"], {"env": {"TMPDIR": "/scratch/tmp"}}).job_manifest
    pod, container = job["spec"]["template"]["spec"], container_of(job)
    assert job["spec"]["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == "regiolect-eu"
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    scratch, signing = pod["volumes"]
    assert scratch == {"name": "scratch", "emptyDir": {"sizeLimit": "20Gi"}}
    assert signing["secret"]["secretName"] == "regiolect-no-key", "a build signs nothing"
    assert signing["secret"]["optional"] is True
    assert container["volumeMounts"] == [
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "signing", "mountPath": "/signing", "readOnly": True},
    ]
    environment = {item["name"]: item["value"] for item in container["env"]}
    assert environment["REGIOLECT_HOME"].startswith("/scratch/")
    # A deployment's own value wins, and is there once.
    assert [item["value"] for item in container["env"] if item["name"] == "TMPDIR"] == ["/scratch/tmp"]


def test_a_job_gets_the_gpus_that_it_asks_for_and_all_of_its_processors(templates: dict[str, dict[str, Any]]) -> None:
    values = {"gpus": 2, "cpu": "4", "memory": "16Gi", "node_selector": {"nvidia.com/gpu.product": "Tesla-T4"}}
    job = render("kubernetes", templates["kubernetes"], values).job_manifest
    resources = container_of(job)["resources"]
    assert resources["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": 2}
    # Requests equal to limits: nothing else takes the processors while a latency is measured.
    assert resources["requests"] == {"cpu": "4", "memory": "16Gi"}
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "Tesla-T4"}
    none = container_of(render("kubernetes", templates["kubernetes"], {}).job_manifest)["resources"]["limits"]
    assert none["nvidia.com/gpu"] == 0

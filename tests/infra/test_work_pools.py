"""The base job templates, judged by Prefect's own workers, schema checks and Kubernetes' schema."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

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

from flows.deploy.deployments import CONTROL, Deployment, deployments, pools
from flows.deploy.job_templates import closed, template_of
from regiolect.errors import InvalidSetting
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
RUN = UUID(int=1)
SETTINGS = Settings(image=IMAGE, image_gpu=IMAGE)
# What would let whoever starts a run say what is executed, as whom, where, or with which files and environment.
TAKEOVER: dict[str, Any] = {
    "command": "touch /srv/was-here",
    "env": {"PYTHONPATH": "/srv/theirs"},
    "env.PYTHONPATH": "/srv/theirs",
    "working_dir": "/srv/theirs",
    "image": "registry.elsewhere.example/theirs:1",
    "volumes": ["/:/host"],
    "networks": ["host"],
    "network_mode": "host",
    "privileged": True,
    "labels": {"a": "b"},
    "namespace": "kube-system",
    "service_account_name": "regiolect-worker",
    "signing_secret": "regiolect-logins",
    "signing_volume": "/root",
    "container_create_kwargs": {"user": "0:0"},
    "job_manifest": {},
}

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
    rendered.prepare_for_flow_run(FlowRun(id=RUN, name="calm-otter", flow_id=RUN))
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
    sets = distinct(deployment.job_variables(kind, SETTINGS) for deployment in every_deployment())
    assert sets
    for variables in sets:
        assert set(variables) <= set(templates[kind]["variables"]["properties"])
        check(templates[kind], variables)
        render(kind, templates[kind], variables)


@cache
def every_deployment() -> Sequence[Deployment]:
    return deployments(PolicyBook())


@cache
def in_pools() -> dict[str, list[Deployment]]:
    """The deployments of every pool."""
    every = every_deployment()
    return {pool.name: [each for each in every if each.pool == pool.name] for pool in pools(PolicyBook())}


def distinct(sets: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({json.dumps(each, sort_keys=True): each for each in sets}.values())


@every_type
def test_a_run_says_nothing_of_what_is_executed(kind: str, templates: dict[str, dict[str, Any]]) -> None:
    for pool, theirs in in_pools().items():
        sets = distinct(each.job_variables(kind, SETTINGS) for each in theirs)
        template = closed(templates[kind], sets, pool)
        is_valid_schema(template["variables"], preprocess=False)
        for each in sets:
            check(template, each)
            ours = render(kind, template, each).model_dump()
            for name, value in TAKEOVER.items():
                with pytest.raises(ValidationError):
                    check(template, {**each, name: value})
            # Where the server did not look, all but the environment still has no effect.
            known = template["variables"]["properties"]
            unknown = {name: value for name, value in TAKEOVER.items() if name.partition(".")[0] not in known}
            assert unknown
            assert render(kind, template, {**each, **unknown}).model_dump() == ours, pool


@every_type
def test_even_without_pools_apply_no_template_takes_a_command_or_a_foreign_environment(
    kind: str, templates: dict[str, dict[str, Any]]
) -> None:
    for name in TAKEOVER.keys() - {"image", "service_account_name"}:
        with pytest.raises(ValidationError):
            check(templates[kind], {**NEEDED[kind], name: TAKEOVER[name]})
    assert "command" not in json.dumps(templates[kind]["job_configuration"])


@every_type
def test_only_runs_of_control_get_the_signing_key(kind: str, templates: dict[str, dict[str, Any]]) -> None:
    for pool, theirs in in_pools().items():
        template = closed(templates[kind], [each.job_variables(kind, SETTINGS) for each in theirs], pool)
        held = {kind: "regiolect-signing" in json.dumps(template) for kind in ("docker", "kubernetes")}
        assert held.get(kind, False) == (pool == CONTROL and kind != "process"), pool


def test_prefects_own_template_is_closed_as_well() -> None:
    sets = [each.job_variables("process", SETTINGS) for each in in_pools()[CONTROL]]
    template = closed(template_of("process", None), sets, CONTROL)
    assert set(template["variables"]["properties"]) == {"env"}
    assert "command" not in json.dumps(template["job_configuration"])
    assert closed(template, sets, CONTROL) == template, "a second time changes nothing"
    rendered = render("process", template, sets[0])
    assert sets[0]["env"].items() <= rendered.env.items()
    assert rendered.command.endswith("-m prefect.engine")


def test_an_operators_defaults_become_part_of_the_job(templates: dict[str, dict[str, Any]]) -> None:
    theirs = json.loads(json.dumps(templates["docker"]))
    theirs["variables"]["properties"]["memory"]["default"] = "64g"
    sets = [each.job_variables("docker", SETTINGS) for each in in_pools()["cpu-x86"]]
    template = closed(theirs, sets, "cpu-x86")
    assert render("docker", template, sets[0]).mem_limit == "64g"
    with pytest.raises(ValidationError):
        check(template, {**sets[0], "memory": "1g"})


def test_a_template_without_what_deployments_set_is_refused_by_name(templates: dict[str, dict[str, Any]]) -> None:
    sets = [each.job_variables("docker", SETTINGS) for each in in_pools()[CONTROL]]
    with pytest.raises(InvalidSetting, match=r"image, signing_volume"):
        closed(templates["process"], sets, CONTROL)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("docker", {"image": "regiolect-worker"}),
        ("docker", {"image": "regiolect-worker:latest"}),
        ("docker", {"image": "registry.example.com:5000/regiolect-worker"}),
        ("docker", {"gpus": 1}),
        ("docker", {"memory": "8Gi"}),
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


def test_a_container_is_locked_down_and_can_write_to_scratch_alone(templates: dict[str, dict[str, Any]]) -> None:
    rendered = render("docker", templates["docker"], {"env": {"REGIOLECT_TRUST": "/signing/trust.json"}})
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
    assert host["Binds"] == ["/scratch", "regiolect-trust:/signing:ro"], "a build signs nothing"
    assert not rendered.privileged
    assert options["user"] == "10001:10001"
    written = {"HOME": "/scratch", "TMPDIR": "/scratch", "REGIOLECT_HOME": "/scratch/regiolect"}
    assert rendered.env["REGIOLECT_TRUST"] == "/signing/trust.json"
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
    job = render("kubernetes", templates["kubernetes"], {}).job_manifest
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
    assert signing["secret"]["secretName"] == "regiolect-trust", "a build signs nothing"
    assert signing["secret"]["optional"] is True
    assert container["volumeMounts"] == [
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "signing", "mountPath": "/signing", "readOnly": True},
    ]
    environment = {item["name"]: item["value"] for item in container["env"]}
    assert environment["REGIOLECT_HOME"].startswith("/scratch/")
    assert environment["TMPDIR"] == "/scratch"


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

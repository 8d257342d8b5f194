"""Pools and deployments on a real server: made once, kept when nothing changed, and never over an operator's head."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Running
from prefect.workers.process import ProcessWorker

from flows import dispatch
from flows.deploy.deployments import TAG, deployments, prefect_yaml
from flows.deploy.pools import WATCH, Change, apply
from flows.dispatch import deployment_name, in_pool
from regiolect.errors import DeadlineExceeded, InvalidSetting, NoDeployment, OrchestratorError
from regiolect.planning import BuildOrder, RegionRequest
from regiolect.policy import PolicyBook
from regiolect.settings import Settings
from tests.patience import PATIENCE, until

ROOT = Path(__file__).parents[2]
POLICY = """
region: {region}
title: The {region}
reason: A policy for the purpose of a test, no more.
precision: INT8
accuracy: {{metric: accuracy, limit: 0.5}}
targets: [{targets}]
nightly: {{cron: "{cron}", timezone: Europe/Oslo}}
"""
MODEL = "tests.flows.tiny_models:TINY"


def write(folder: Path, region: str, *targets: str, cron: str = "0 2 * * *") -> None:
    listed = ", ".join(f"{{name: {target}, backend: onnxruntime}}" for target in targets)
    (folder / f"{region}.yaml").write_text(POLICY.format(region=region, targets=listed, cron=cron))


@pytest.fixture(scope="module")
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(client: SyncPrefectClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two regions' policies, whose pools and deployments go when the module is through."""
    made = tmp_path_factory.mktemp("policies")
    write(made, "fjord", "cpu-fjord", "gpu-fjord")
    write(made, "dune", "cpu-fjord")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGIOLECT_POLICIES", str(made))
        patch.setenv("REGIOLECT_MODELS", MODEL)
        yield made
    for deployment in client.read_deployments():
        if TAG in deployment.tags:
            client.delete_deployment(deployment.id)
    for pool in client.read_work_pools():
        client.delete_work_pool(pool.name)
    for automation in client.read_automations():
        client.delete_automation(automation.id)


@pytest.fixture(scope="module")
def first(folder: Path) -> tuple[Change, ...]:
    """What the first apply of this module did."""
    return apply(PolicyBook(folder), Settings())


def again(folder: Path, prune: bool = False) -> dict[str, str]:
    """What another apply does, by name, where it does anything."""
    changes = apply(PolicyBook(folder), Settings(), prune=prune)
    return {change.name: change.done for change in changes if change.done != "unchanged"}


def find(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    return client.read_deployment_by_name(name)


def test_the_first_apply_makes_everything_and_the_second_nothing(folder: Path, first: tuple[Change, ...]) -> None:
    made = {change.name for change in first if change.done == "created"}
    assert {"cpu-fjord", "gpu-fjord", "gpu-fjord/interactive", "gpu-fjord/nightly"} <= made
    assert {each.full_name for each in deployments(PolicyBook(folder))} <= made
    assert again(folder) == {}


def test_runs_of_people_come_before_those_of_the_night(first: tuple[Change, ...], client: SyncPrefectClient) -> None:
    queues = {queue.name: queue for queue in client.read_work_queues("gpu-fjord")}
    assert queues["interactive"].priority == 1
    assert queues["nightly"].priority == 10
    assert "default" in queues


def test_a_build_lies_where_the_release_looks_for_it(
    folder: Path, first: tuple[Change, ...], client: SyncPrefectClient
) -> None:
    request = asked(folder, "gpu-fjord")
    found = find(client, deployment_name(request))
    assert (found.work_pool_name, found.work_queue_name) == ("gpu-fjord", "interactive")
    assert set(found.tags) == {TAG, "region:fjord", "INT8", "gpu-fjord", "gpu"}
    assert found.concurrency_options is not None
    assert found.concurrency_options.collision_strategy == "ENQUEUE"
    assert found.global_concurrency_limit is not None
    assert found.global_concurrency_limit.limit == 1


@pytest.mark.parametrize(
    ("how", "said"), [({}, "nightly.deadline_minutes"), ({"too_long": "tune again: it goes on"}, "tune again")]
)
def test_who_waits_too_long_is_told_what_the_caller_advises(
    how: dict[str, str],
    said: str,
    folder: Path,
    first: tuple[Change, ...],
    client: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "_CANCEL_SECONDS", 1)
    request, name = asked(folder, "gpu-fjord"), "tune/fjord-gpu-fjord"
    parameters = {"model": MODEL, "region": "fjord", "target": "gpu-fjord", "minutes": 1.0, "force": False}
    with ThreadPoolExecutor() as pool:
        # No worker takes it: it is said to run, and never ends.
        marked = pool.submit(mark_running, find(client, name).id)
        with pytest.raises(DeadlineExceeded) as raised:
            in_pool(request, name, parameters, 6.0, **how)
        marked.result()
    assert said in raised.value.remedy
    assert "within 0.1 minutes" in raised.value.expected


def test_a_build_takes_an_order_and_one_of_another_version_is_named(
    folder: Path, first: tuple[Change, ...], client: SyncPrefectClient, bundles
) -> None:
    request = asked(folder, "gpu-fjord")
    order = BuildOrder(request=request, exported=bundles.exported())
    build, sent = find(client, deployment_name(request)), order.model_dump(mode="json")
    run = client.create_flow_run_from_deployment(build.id, parameters={"order": sent})
    client.delete_flow_run(run.id)
    older = {"request": sent["request"], "model": sent["exported"], "force": False}
    with pytest.raises(NoDeployment, match=r"'order' is a required property.*regiolect pools apply"):
        in_pool(request, deployment_name(request), older, 6.0)


def test_what_an_operator_decided_stays(folder: Path, first: tuple[Change, ...], client: SyncPrefectClient) -> None:
    nightly, watched = find(client, "nightly/fjord"), client.read_automations_by_name(WATCH)[0]
    client.update_work_pool("cpu-fjord", WorkPoolUpdate(is_paused=True, concurrency_limit=3))
    queue = client.read_work_queue_by_name("interactive", "cpu-fjord")
    client.update_work_queue(queue.id, concurrency_limit=2, is_paused=True)
    client.pause_deployment(find(client, "build-region/fjord-cpu-fjord").id)
    client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)
    client.create_deployment_schedules(nightly.id, [DeploymentScheduleCreate(schedule=CronSchedule(cron="0 5 * * 6"))])
    client.pause_automation(watched.id)
    assert again(folder) == {}

    write(folder, "fjord", "cpu-fjord", "gpu-fjord", cron="30 3 * * *")
    assert again(folder) == {"nightly/fjord": "updated"}
    assert again(folder) == {}
    pool, queue = client.read_work_pool("cpu-fjord"), client.read_work_queue_by_name("interactive", "cpu-fjord")
    assert (pool.is_paused, pool.concurrency_limit) == (True, 3)
    assert (queue.is_paused, queue.concurrency_limit) == (True, 2)
    assert find(client, "build-region/fjord-cpu-fjord").paused
    schedules = {(each.slug, each.active, str(each.schedule.cron)) for each in find(client, "nightly/fjord").schedules}
    assert schedules == {("nightly", False, "30 3 * * *"), (None, True, "0 5 * * 6")}
    assert not client.read_automations_by_name(WATCH)[0].enabled


def test_what_others_changed_in_our_deployments_is_mended_and_named(
    folder: Path, first: tuple[Change, ...], client: SyncPrefectClient
) -> None:
    client.request(
        "PATCH",
        "/deployments/{id}",
        path_params={"id": find(client, "nightly/dune").id},
        json={"tags": ["mine"], "parameters": {"regions": ["fjord"]}},
    )
    changes = {each.name: each for each in apply(PolicyBook(folder), Settings()) if each.done != "unchanged"}
    assert {name: each.detail for name, each in changes.items()} == {"nightly/dune": "parameters, tags"}
    assert find(client, "nightly/dune").parameters == {"regions": ["dune"]}


def test_deployments_of_a_lost_region_are_told_and_go_when_asked_to(
    folder: Path, first: tuple[Change, ...], client: SyncPrefectClient
) -> None:
    ours = find(client, "nightly/dune")
    foreign = client.create_deployment(flow_id=ours.flow_id, name="of-somebody-else")
    (folder / "dune.yaml").unlink()
    gone = {"nightly/dune", "build-region/dune-cpu-fjord", "tune/dune-cpu-fjord"}
    try:
        told = again(folder)
        # The forms of the others no longer offer the region.
        assert {name for name, done in told.items() if done == "obsolete"} == gone
        assert find(client, "nightly/dune").id == ours.id
        assert again(folder, prune=True) == dict.fromkeys(gone, "deleted")
        with pytest.raises(ObjectNotFound):
            find(client, "nightly/dune")
        assert client.read_deployment(foreign).name == "of-somebody-else"
    finally:
        client.delete_deployment(foreign)
        write(folder, "dune", "cpu-fjord")
    assert again(folder)["nightly/dune"] == "created"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"model": "nobody.knows:THIS"}, rf"field 'model'.*nobody.knows:THIS.*is not one of.*{MODEL}"),
        ({"model": MODEL, "regions": ["atlantis"]}, r"regions.*atlantis.*is not one of.*fjord"),
        ({"model": MODEL, "targets": ["gpu-none"]}, r"targets.*gpu-none.*is not one of.*gpu-fjord"),
        ({}, r"'model' is a required property"),
        ({"model": MODEL, "force": "perhaps"}, r"field 'force'"),
    ],
    ids=["model", "region", "target", "nothing", "no-switch"],
)
def test_the_server_refuses_what_the_form_does_not_offer(
    folder: Path, first: tuple[Change, ...], client: SyncPrefectClient, wrong: dict[str, object], told: str
) -> None:
    again(folder)
    with pytest.raises(PrefectHTTPStatusError, match=told):
        client.create_flow_run_from_deployment(find(client, "release/release").id, parameters=wrong)


def test_the_server_takes_what_the_form_sends(
    folder: Path, first: tuple[Change, ...], client: SyncPrefectClient
) -> None:
    again(folder)
    sent = {"model": MODEL, "regions": ["fjord"], "targets": [], "force": False, "drills": False, "dry_run": True}
    run = client.create_flow_run_from_deployment(find(client, "release/release").id, parameters=sent)
    client.delete_flow_run(run.id)
    assert run.parameters == sent
    assert TAG in run.tags


def test_prefects_own_deploy_makes_the_same(
    folder: Path, first: tuple[Change, ...], client: SyncPrefectClient, prefect_server: str, tmp_path: Path
) -> None:
    again(folder)
    made = [each.full_name for each in deployments(PolicyBook(folder))]
    for name in made:
        client.delete_deployment(find(client, name).id)
    file = tmp_path / "prefect.yaml"
    file.write_text(prefect_yaml(PolicyBook(folder), Settings()))
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)],
        cwd=tmp_path,
        env={**os.environ, "PREFECT_API_URL": prefect_server, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {find(client, name).entrypoint for name in made} == {
        "flows.release.release",
        "flows.audit.audit",
        "flows.nightly.nightly",
        "flows.build_region.build_region",
        "flows.tune_on_target.tune",
    }
    assert again(folder) == {}


def test_a_pool_that_let_runs_name_their_command_is_closed(
    folder: Path, first: tuple[Change, ...], client: SyncPrefectClient
) -> None:
    """As earlier versions made it, with Prefect's own template, and with a default of the operator's."""
    made = client.read_work_pool("cpu-fjord").base_job_template
    open_one = ProcessWorker.get_default_base_job_template()
    open_one["variables"]["properties"]["stream_output"]["default"] = False
    client.update_work_pool("cpu-fjord", WorkPoolUpdate(base_job_template=open_one))
    changes = {each.name: each for each in apply(PolicyBook(folder), Settings()) if each.done != "unchanged"}
    assert changes["cpu-fjord"].detail == "base_job_template"
    now = client.read_work_pool("cpu-fjord").base_job_template
    assert now["variables"] == made["variables"]
    assert now["job_configuration"] == {**made["job_configuration"], "stream_output": False}
    assert again(folder) == {}
    client.update_work_pool("cpu-fjord", WorkPoolUpdate(base_job_template=made))


def test_a_pool_that_no_policy_names_any_more_is_closed_as_well(
    folder: Path, first: tuple[Change, ...], client: SyncPrefectClient
) -> None:
    write(folder, "dune", "cpu-fjord", "cpu-dune")
    again(folder)
    write(folder, "dune", "cpu-fjord")
    open_one = ProcessWorker.get_default_base_job_template()
    client.update_work_pool("cpu-dune", WorkPoolUpdate(base_job_template=open_one))
    try:
        assert again(folder)["cpu-dune"] == "updated"
        now = client.read_work_pool("cpu-dune").base_job_template
        assert "command" not in json.dumps(now["job_configuration"])
        assert set(now["variables"]["properties"]) == {"env"}
        assert "cpu-dune" not in again(folder)
    finally:
        apply(PolicyBook(folder), Settings(), prune=True)
        client.delete_work_pool("cpu-dune")


@pytest.mark.parametrize("theirs", [{"command": "id"}, {"env": {"A": "1"}}, {"working_dir": "/"}, {"env.A": "1"}])
def test_whoever_starts_a_run_chooses_nothing_of_how_it_is_started(
    folder: Path, first: tuple[Change, ...], client: SyncPrefectClient, theirs: dict[str, Any]
) -> None:
    again(folder)
    release, run = find(client, "release/release"), {"parameters": {"model": MODEL}}
    with pytest.raises(PrefectHTTPStatusError, match="422"):
        create_run(client, release, {**run, "job_variables": theirs})
    # Changing a deployment is not looked at by the server, but its next run is.
    client.request("PATCH", "/deployments/{id}", path_params={"id": release.id}, json={"job_variables": theirs})
    with pytest.raises(PrefectHTTPStatusError, match="422"):
        create_run(client, release, run)
    assert again(folder) == {"release/release": "updated"}


def create_run(client: SyncPrefectClient, deployment: DeploymentResponse, body: dict[str, Any]) -> None:
    client.request("POST", "/deployments/{id}/create_flow_run", path_params={"id": deployment.id}, json=body)


@pytest.mark.parametrize("pool_type", ["docker", "kubernetes"])
def test_pools_of_containers_take_their_templates_and_the_image(
    client: SyncPrefectClient, tmp_path: Path, pool_type: str, folder: Path
) -> None:
    write(tmp_path, "isle", f"gpu-{pool_type}")
    settings = Settings(image="registry.example/worker:1")
    for _ in range(2):
        changes = apply(PolicyBook(tmp_path), settings, pool_type, ROOT / "infra" / "work_pools")
    assert {each.done for each in changes if each.kind == "pool" or pool_type in each.name} == {"unchanged"}
    assert client.read_work_pool(f"gpu-{pool_type}").type == pool_type
    build = find(client, f"build-region/isle-gpu-{pool_type}")
    assert build.job_variables["image"] == "registry.example/worker:1"


def test_a_pool_of_containers_without_a_template_is_refused(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, "isle", "gpu-nowhere")
    with pytest.raises(InvalidSetting, match="--job-templates infra/work_pools"):
        apply(PolicyBook(tmp_path), Settings(image="worker:1"), "docker")


def test_a_refusal_of_the_server_is_an_error_of_ours(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "process.json"
    variables = '{"properties": {"env": {"type": "strange"}}}'
    template.write_text(f'{{"job_configuration": {{"env": "{{{{ env }}}}"}}, "variables": {variables}}}')
    write(tmp_path, "isle", "cpu-refused")
    with pytest.raises(OrchestratorError, match="strange"):
        apply(PolicyBook(tmp_path), Settings(), "process", tmp_path)


def asked(folder: Path, target: str) -> RegionRequest:
    """Fjord's engine for a target."""
    policy = PolicyBook(folder).load("fjord")
    return RegionRequest(
        address=MODEL,
        name="tiny",
        policy=policy,
        target=policy.target(target),
        build_key="sha256:" + "0" * 64,
        key_parts={},
    )


def mark_running(deployment: UUID) -> None:
    """Waits for a run of the deployment that is scheduled, and says that it runs."""
    filters = {
        "deployment_filter": DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        "flow_run_filter": FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Scheduled"]))),
    }
    with get_client(sync_client=True) as client:
        until(lambda: client.read_flow_runs(**filters))
        client.set_flow_run_state(client.read_flow_runs(**filters)[0].id, Running(), force=True)

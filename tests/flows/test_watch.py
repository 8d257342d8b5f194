"""What becomes of runs that fall silent, on a real server that watches them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from prefect.states import Completed, Running

from flows.deploy.deployments import TAG
from flows.deploy.pools import watch
from tests.patience import until


def test_a_run_that_falls_silent_has_crashed_and_one_that_ended_has_not(prefect_server: str) -> None:
    watching = watch(timedelta(seconds=10)).model_copy(update={"name": f"quick {uuid4()}"})
    with get_client(sync_client=True) as client:
        automation = client.create_automation(watching)
        silent, ended = (beating(client) for _ in range(2))
        client.set_flow_run_state(ended.id, Completed())
        until(lambda: state_of(client, silent) == "Crashed")
        assert state_of(client, ended) == "Completed"
        client.delete_automation(automation)


def beating(client: SyncPrefectClient) -> FlowRun:
    """A run that has told once that it lives."""
    flow_id = client.create_flow_from_name("silent")
    response = client.request(
        "POST", "/flow_runs/", json={"flow_id": str(flow_id), "tags": [TAG], "state": {"type": "PENDING"}}
    )
    run = FlowRun.model_validate(response.json())
    client.set_flow_run_state(run.id, Running())
    emit_event(
        "prefect.flow-run.heartbeat",
        occurred=datetime.now(UTC),
        resource={"prefect.resource.id": f"prefect.flow-run.{run.id}"},
        related=[{"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}],
    )
    EventsWorker.instance().wait_until_empty()
    return run


def state_of(client: SyncPrefectClient, run: FlowRun) -> str | None:
    state = client.read_flow_run(run.id).state
    return None if state is None else state.name

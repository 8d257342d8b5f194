"""What a Prefect server that outlives a command is told when that command is interrupted: its runs are over."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from prefect import Flow, State
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun
from prefect.states import Cancelled, Cancelling

from regiolect.host.interrupts import MESSAGE

_known: list[UUID] = []
_GOING_ON = FlowRunFilterState(type=FlowRunFilterStateType(not_any_=list(TERMINAL_STATES)))


def known(flow: Flow[..., Any]) -> Flow[..., Any]:
    """The flow, with its runs remembered for `cancel`."""
    return flow.with_options(on_running=[*(flow.on_running_hooks or []), _remember])


def cancel() -> None:
    """End the known runs and all that they started: runs of this process are marked, those on workers are stopped."""
    with get_client(sync_client=True) as client:
        level = [client.read_flow_run(run) for run in _known]
        while level:
            # Those above first: none of them starts another run any more.
            for run in level:
                _end(run, client)
            below = FlowRunFilterParentFlowRunId(any_=[run.id for run in level])
            level = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=below, state=_GOING_ON))


def _remember(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    _known.append(flow_run.id)


def _end(run: FlowRun, client: SyncPrefectClient) -> None:
    if run.state is not None and run.state.is_final():
        return
    # A run on a worker is ended by it; one of this process has nobody to answer for it.
    elsewhere = run.deployment_id is not None and run.state is not None and not run.state.is_scheduled()
    state: State[None] = Cancelling(message=MESSAGE) if elsewhere else Cancelled(message=MESSAGE)
    client.set_flow_run_state(run.id, state, force=not elsewhere)

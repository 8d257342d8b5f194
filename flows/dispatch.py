"""Where a region is built: in this process, or by a worker of the work pool that is named after its target."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast
from uuid import UUID

from prefect import State, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import FlowRunWaitTimeout, ObjectNotFound, PrefectHTTPStatusError
from prefect.flow_runs import wait_for_flow_run
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Cancelled, Cancelling

from flows.build_region import build_region
from flows.deploy.deployments import INTERACTIVE, NIGHTLY
from regiolect.contracts import RegionAnswer
from regiolect.errors import DeadlineExceeded, NoDeployment, NoWorker, RegiolectError, RunLost
from regiolect.errors.redaction import showable
from regiolect.host.waiting import patiently
from regiolect.network import one_line
from regiolect.planning import BuildOrder, RegionRequest, answer_of
from regiolect.release.outcome import is_of_another_class, refuse
from regiolect.settings import load_settings, store_of

RAISE_DEADLINE = "look into the run's log, or raise nightly.deadline_minutes in the region's policy"
_POLL_SECONDS = 1.0
# An event that passed while the server was being restarted never comes: the run's state is read again this often.
_LOOK_AGAIN_SECONDS = 30
_CANCEL_SECONDS = 10
# What the server answers to parameters that a deployment's schema does not offer.
_REFUSED = (409, 422)


@task(name="region", task_run_name="{order.request.policy.region}-{order.request.target.name}", cache_policy=NO_CACHE)
def dispatch(order: BuildOrder) -> RegionAnswer:
    """Have one region's engine for one target; an error becomes the region's refused outcome."""
    clock = time.perf_counter()
    try:
        answer = (_in_pool if load_settings().on_pools else _here)(order)
    except RegiolectError as error:
        # Nothing was tried, or nobody knows what came of it: what the store holds stays as it is.
        answer = RegionAnswer(outcome=refuse(order.request, error, seconds=time.perf_counter() - clock), built=False)
    return answer


def deployment_name(request: RegionRequest) -> str:
    """The deployment through which a region's engine for a target is built."""
    return f"build-region/{request.region}-{request.target.name}"


def _here(order: BuildOrder) -> RegionAnswer:
    clock, request = time.perf_counter(), order.request
    # It lives and dies with this process, for which the parent's heartbeat speaks; and each flow waits up to a second
    # for the end of its own.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        state = build_region.with_options(timeout_seconds=_deadline(request))(order, return_state=True)
    if state.name == "TimedOut":
        raise _too_long(request, f"it was stopped: {_said(state)}", _deadline(request), RAISE_DEADLINE)
    result = state.result(raise_on_failure=False)
    if isinstance(result, RegionAnswer):
        return result
    return RegionAnswer(outcome=refuse(request, result, seconds=time.perf_counter() - clock), built=True)


def _in_pool(order: BuildOrder) -> RegionAnswer:
    request, parameters = order.request, {"order": order.model_dump(mode="json")}
    until = time.perf_counter() + load_settings().worker_wait_seconds
    while True:
        answer = in_pool(request, deployment_name(request), parameters, _deadline(request))
        # In a pool of mixed machines the first worker to ask gets the run, and gives it back if of another class.
        if not is_of_another_class(answer.outcome) or time.perf_counter() > until:
            return answer


def in_pool(
    request: RegionRequest,
    deployment: str,
    parameters: dict[str, Any],
    deadline: float,
    too_long: str = RAISE_DEADLINE,
) -> RegionAnswer:
    """What a worker of the target's pool tells of a run of one of its deployments.

    Args:
        request: the region and target that the run is for.
        deadline: seconds after which it is cancelled.
        too_long: what to do then, the remedy of DeadlineExceeded.

    Raises:
        NoDeployment, NoWorker, DeadlineExceeded, RunLost: it was not started, took too long, or died.
    """
    clock, settings = time.perf_counter(), load_settings()
    try:
        # Called from a task in a thread it is not awaited; its annotation cannot tell.
        run = cast(
            FlowRun,
            run_deployment(
                deployment,
                parameters=parameters,
                # Prefect names a run by its flow's template only once it starts.
                flow_run_name=request.run_name,
                work_queue_name=NIGHTLY if NIGHTLY in runtime.flow_run.tags else INTERACTIVE,
                timeout=0,
            ),
        )
    except ObjectNotFound as error:
        raise NoDeployment(
            expected=f"a deployment {deployment} on the Prefect server",
            found="none",
            remedy="regiolect pools apply; or REGIOLECT_BUILD_ON=here to build on this machine",
        ) from error
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in _REFUSED:
            raise
        raise NoDeployment(
            expected=f"a deployment {deployment} that takes what this version of Regiolect sends",
            found=f"one of another version, or changed by hand: {one_line(error.response.text)}",
            remedy="regiolect pools apply, on the machine whose version is that of the workers",
        ) from showable(error)
    run = _when_taken(run, request.target.name, min(settings.worker_wait_seconds, deadline))
    run = _when_over(run, deadline - (time.perf_counter() - clock))
    if not _is_over(run):
        _cancel(run.id)
        raise _too_long(request, f"the run {run.name!r} still {_said(run.state)}; it is cancelled", deadline, too_long)
    answer = answer_of(str(run.id), store_of(request))
    if answer is None:
        raise _lost(request, f"run {run.name!r}: {_said(run.state)}")
    return answer


def _deadline(request: RegionRequest) -> float:
    return request.policy.nightly.deadline_minutes * 60.0


def _when_taken(run: FlowRun, pool: str, seconds: float) -> FlowRun:
    """Raises NoWorker if no worker took it in time; the run is cancelled then."""
    with get_client(sync_client=True) as client:

        def taken(seconds: float) -> bool:
            nonlocal run
            until = time.perf_counter() + seconds
            while (waits := run.state is None or run.state.is_scheduled()) and time.perf_counter() < until:
                time.sleep(_POLL_SECONDS)
                run = client.read_flow_run(run.id)
            return not waits

        def nobody(state: str) -> NoWorker:
            _cancel(run.id)
            return NoWorker(
                expected=f"a worker of pool {pool!r} within {seconds:g} s",
                found=f"{state}; it is cancelled",
                remedy=f"start one on the target: prefect worker start --pool {pool}; then run again",
            )

        whom = f"for a worker of pool {pool!r}"
        patiently(taken, whom, seconds, lambda: f"the run {run.name!r} still {_said(run.state)}", nobody)
    return run


def _when_over(run: FlowRun, seconds: float) -> FlowRun:
    until = time.perf_counter() + seconds
    with get_client(sync_client=True) as client:
        while not _is_over(run) and (left := until - time.perf_counter()) > 0:
            try:
                run = asyncio.run(wait_for_flow_run(run.id, timeout=max(1, round(min(left, _LOOK_AGAIN_SECONDS)))))
            except FlowRunWaitTimeout:
                run = client.read_flow_run(run.id)
    return run


def _cancel(run: UUID) -> None:
    """Stop a run. One whose worker no longer answers is marked as stopped all the same, so that it blocks no place."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Cancelling())
        ended = _when_over(client.read_flow_run(run), _CANCEL_SECONDS)
        if not _is_over(ended):
            client.set_flow_run_state(run, Cancelled(), force=True)


def _is_over(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def _said(state: State | None) -> str:
    if state is None:
        return "without a state"
    return f"{state.name} ({state.message})" if state.message else state.name or state.type.value


def _too_long(request: RegionRequest, found: str, seconds: float, remedy: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        expected=f"{request.region} on {request.target.name} within {seconds / 60:g} minutes",
        found=found,
        remedy=remedy,
    )


def _lost(request: RegionRequest, found: str) -> RunLost:
    return RunLost(
        expected=f"an answer from the run that works on {request.region} for {request.target.name}",
        found=found,
        remedy="run again: what was finished is not built twice; if it stays, read the flow run's log in Prefect",
    )

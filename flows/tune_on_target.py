"""Tuning on demand: an approved engine, measured on its own target, timed and judged anew, and kept for publishing."""

from __future__ import annotations

import time
from contextlib import suppress

from prefect import State, flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.choices import Anew, Minutes, ModelName, RegionName, Regions, TargetName, Targets
from flows.dispatch import in_pool
from flows.release import SIDE_BY_SIDE
from regiolect.contracts import RegionAnswer, RegionOutcome
from regiolect.errors import RegiolectError, StorageError
from regiolect.planning import (
    HERE,
    Installation,
    RegionRequest,
    ReleaseRequest,
    TuneOrder,
    answer,
    finished,
    on_this_machine,
    request_here,
    tell,
)
from regiolect.release.outcome import refuse, retuned
from regiolect.report import lines
from regiolect.settings import load_settings, store_of
from regiolect.tune.candidates import DEFAULT_MINUTES
from regiolect.tune.region import approved_parts
from tasks.evaluate import gate, time_again
from tasks.export import export
from tasks.in_child import one_child
from tasks.plan import plan
from tasks.tune import tune_engine
from tasks.validate import ingest_data, validate_data

# Beside measuring: starting, reading the data, timing anew.
_MORE_SECONDS = 1800.0


@flow(name="tune", flow_run_name="{model}-{region}-{target}")
def tune(
    model: ModelName,
    region: RegionName,
    target: TargetName,
    minutes: Minutes = DEFAULT_MINUTES,
    force: Anew = False,
) -> RegionAnswer:
    """Tune one region's approved engine on this machine, which must be one of its target.

    The outcome is kept under the engine's build key, and the next release publishes and signs it; nothing is rebuilt.
    Whatever stops it leaves what is kept of the engine as it was, and the journal for a later run to go on from.

    Args:
        model: address of the ModelSpec, `package.module:NAME`, or the name of an entry point.
        region: whose engine.
        target: for what.
        minutes: how long measuring may take, in all runs that go on from one journal.
        force: measure anew.

    Raises:
        UnknownModel, UnknownRegion, UnknownTarget: there is no such.
        TuningError: there is no approved engine of this machine's build key, the time is too short, or the gate does
            not approve the engine as it is tuned.
        RegiolectError: whatever else stopped it.
    """
    here = Installation.of(load_settings())
    return _answer(TuneOrder(request=request_here(here, model, region, target), minutes=minutes, force=force))


@flow(name="tune", flow_run_name="{order.request.run_name}")
def tune_planned(order: TuneOrder) -> RegionAnswer:
    """`tune`, of what was planned already in this process."""
    return _answer(order)


def _answer(order: TuneOrder) -> RegionAnswer:
    clock, request, run = time.perf_counter(), order.request, str(runtime.flow_run.id)
    store = store_of(request)
    try:
        request = on_this_machine(request, store)
        with one_child(f"{request.region} on {request.target.name}", order.minutes):
            outcome = _tuned(request, order)
    except Exception as error:
        # Whoever waits is told, and finds the engine as it was. A store that takes no record hides nothing either.
        with suppress(StorageError):
            tell(run, refuse(request, error, seconds=time.perf_counter() - clock), store, built=False)
        raise
    return answer(run, outcome, request, store, built=True)


def _tuned(request: RegionRequest, order: TuneOrder) -> RegionOutcome:
    store = store_of(request)
    parts = approved_parts(finished(request, store), request, store)
    exported = export(request.address, (request.region,))
    data = validate_data(request, ingest_data(request))
    tuning = tune_engine(request, exported, parts.engine, data, order.minutes, order.force)
    evaluation = time_again(request, exported, parts.engine, data, parts.evaluation, tuning)
    decision = gate(request, parts.engine, parts.attestation, evaluation)
    return retuned(parts.outcome, tuning, evaluation, decision)


@flow(name="tune-all", flow_run_name="tune-{model}", task_runner=SIDE_BY_SIDE)
def tune_all(
    model: ModelName,
    regions: Regions = None,
    targets: Targets = None,
    minutes: Minutes = DEFAULT_MINUTES,
    force: Anew = False,
) -> tuple[RegionAnswer, ...]:
    """Tune every engine that is asked for, each on its own target; whatever happens to one is its own answer.

    Args:
        regions, targets: as of a release.
        minutes, force: as of `tune`, for each engine.
    """
    planned = plan(ReleaseRequest.of(model, regions, targets))
    orders = [TuneOrder(request=request, minutes=minutes, force=force) for request in planned.requests(*HERE)]
    answers = []
    for request, future in [(order.request, tune_one.submit(order)) for order in orders]:
        result = future.result(raise_on_failure=False)
        if not isinstance(result, RegionAnswer):
            result = RegionAnswer(outcome=refuse(request, result, seconds=0.0), built=False)
        answers.append(result)
    return tuple(answers)


@task(
    name="tune engine", task_run_name="{order.request.policy.region}-{order.request.target.name}", cache_policy=NO_CACHE
)
def tune_one(order: TuneOrder) -> RegionAnswer:
    """Tune one engine here, or on a worker of its target's pool."""
    clock = time.perf_counter()
    try:
        result = (_elsewhere if load_settings().on_pools else _here)(order)
    except RegiolectError as error:
        result = RegionAnswer(outcome=refuse(order.request, error, seconds=time.perf_counter() - clock), built=False)
    lines.tuned(result.outcome)
    return result


def _here(order: TuneOrder) -> RegionAnswer:
    clock = time.perf_counter()
    # It lives and dies with this process, for which the parent's heartbeat speaks.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        state: State[RegionAnswer] = tune_planned(order, return_state=True)
    result = state.result(raise_on_failure=False)
    if isinstance(result, RegionAnswer):
        return result
    return RegionAnswer(outcome=refuse(order.request, result, seconds=time.perf_counter() - clock), built=False)


def _elsewhere(order: TuneOrder) -> RegionAnswer:
    # A worker is told what a person would say in the form, and finds policy and data by itself.
    request = order.request
    place = {"model": request.address, "region": request.region, "target": request.target.name}
    deployment = f"tune/{request.region}-{request.target.name}"
    parameters = {**place, "minutes": order.minutes, "force": order.force}
    too_long = "look into the run's log, then tune again: measuring goes on from the journal"
    return in_pool(request, deployment, parameters, order.minutes * 60 + _MORE_SECONDS, too_long)

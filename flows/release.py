"""The main flow: one trained model in, one approved and registered engine per region out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.build_region import build_region
from flows.drills import drill_once
from regiolect import progress
from regiolect.contracts import Drill, ExportedModel, RegionOutcome, ReleaseResult
from regiolect.outcome import Registered, refuse, rows_of
from regiolect.planning import Plan, RegionRequest, finished, keep
from regiolect.settings import load_settings, without_password
from tasks.export import export
from tasks.plan import plan
from tasks.register import register
from tasks.report import link_report, log_report, write_report

# How many at once is Prefect's own setting: PREFECT_TASK_RUNNER_THREAD_POOL_MAX_WORKERS.
SIDE_BY_SIDE: TaskRunner[Any] = ThreadPoolTaskRunner()


@flow(
    name="release",
    flow_run_name="release-{model}",
    task_runner=SIDE_BY_SIDE,
)
def release(model: str, regions: list[str] | None = None, force: bool = False, drills: bool = False) -> ReleaseResult:
    """Build what changed, judge it, register what was approved, report everything.

    Args:
        model: address of the ModelSpec, `package.module:NAME`, or the name of an entry point.
        regions: regions to release; every region that has both a policy and data when left out.
        force: build again what did not change.
        drills: also try two engines that must be refused, and say whether they were.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    planned = plan(model, tuple(regions or ()), force)
    progress.note(planned.summary())
    done = _release(planned, drills, force) if planned.requests() else Released()
    result = ReleaseResult(
        model=planned.name,
        note=planned.note,
        export=done.export,
        started=started,
        seconds=time.perf_counter() - clock,
        rows=rows_of(planned, done.outcomes, done.built, done.registered),
        drills=done.drills,
        tracking_uri=without_password(load_settings().tracking_uri),
    )
    return _report(result, tuple(done.outcomes.values()))


@dataclass(frozen=True)
class Released:
    """What a release had to show before its report: outcomes and newly built by build key, versions by region."""

    export: str = ""
    outcomes: Mapping[str, RegionOutcome] = field(default_factory=dict)
    built: frozenset[str] = frozenset()
    registered: Mapping[str, Registered] = field(default_factory=dict)
    drills: tuple[Drill, ...] = ()


def _release(planned: Plan, drills: bool, force: bool) -> Released:
    requests = planned.requests()
    model = export(planned.model, tuple(dict.fromkeys(request.region for request in requests)))
    progress.note(f"export: {model.summary()}")
    reused = _reuse(planned)
    # Whatever the plan wanted to reuse and the store lost since is built as well.
    built = _build(tuple(request for request in requests if request.build_key not in reused), model)
    outcomes = {request.build_key: {**reused, **built}[request.build_key] for request in requests}
    registered = _register(model, tuple(outcomes.values()))
    tried = drill_once(requests, outcomes, model, force) if drills else ()
    return Released(model.summary(), outcomes, frozenset(built), registered, tried)


@task(name="region", task_run_name="{request.policy.region}-{request.target.name}", cache_policy=NO_CACHE)
def dispatch(request: RegionRequest, model: ExportedModel) -> RegionOutcome:
    """Run one region's flow where its target is, and keep what came of it, be it an engine or an error."""
    clock = time.perf_counter()
    state = build_region(request, model, return_state=True)
    result = state.result(raise_on_failure=False)
    if isinstance(result, RegionOutcome):
        outcome = result
    else:
        outcome = refuse(request, result, seconds=time.perf_counter() - clock)
    keep(outcome, request, load_settings().store())
    progress.done(outcome)
    return outcome


def _build(requests: tuple[RegionRequest, ...], model: ExportedModel) -> dict[str, RegionOutcome]:
    """Regions side by side; whatever happens to one is its own outcome."""
    futures = [(request, dispatch.submit(request, model)) for request in requests]
    outcomes = {}
    for request, future in futures:
        result = future.result(raise_on_failure=False)
        kept = result if isinstance(result, RegionOutcome) else refuse(request, result, seconds=0.0)
        outcomes[request.build_key] = kept
    return outcomes


def _reuse(planned: Plan) -> dict[str, RegionOutcome]:
    store = load_settings().store()
    kept = {request.build_key: finished(request.build_key, store) for request in planned.requests("reuse")}
    return {key: outcome for key, outcome in kept.items() if outcome is not None}


def _register(model: ExportedModel, outcomes: tuple[RegionOutcome, ...]) -> dict[str, Registered]:
    """One version per region; a region that cannot be registered says why and leaves the others alone."""
    futures = {
        region: register.submit(model, tuple(of_region))
        for region, of_region in groupby(outcomes, key=lambda outcome: outcome.region)
    }
    return {region: future.result(raise_on_failure=False) for region, future in futures.items()}


def _report(result: ReleaseResult, outcomes: tuple[RegionOutcome, ...]) -> ReleaseResult:
    """Engines are registered by now: a report that cannot be written or linked is told, and hides nothing."""
    state = write_report(result, outcomes, return_state=True)
    written = state.result(raise_on_failure=False)
    if not isinstance(written, ReleaseResult):
        progress.note(f"the report could not be written: {written}")
        return result
    for what, linked in (
        ("linked in Prefect", link_report(written, return_state=True)),
        ("logged to MLflow", log_report(written, return_state=True)),
    ):
        if not linked.is_completed():
            progress.note(f"the report was written but not {what}: {linked.message}")
    return written

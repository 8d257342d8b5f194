"""The main flow: one trained model in, one approved and registered engine per region out."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.build_region import build_region
from flows.drills import drill_once
from regiolect import progress
from regiolect.contracts import ExportedModel, RegionOutcome, ReleaseResult
from regiolect.outcome import Registered, refuse, rows_of
from regiolect.planning import Plan, RegionRequest, finished, keep
from regiolect.settings import load_settings, without_password
from tasks.export import export
from tasks.plan import plan
from tasks.register import register
from tasks.report import log_report, write_report

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
    exported = export(model)
    built = _build(planned.requests("build"), exported)
    outcomes = {**_reuse(planned), **built}
    registered = _register(exported, planned, outcomes)
    tried = drill_once(planned, outcomes, exported) if drills else ()
    result = ReleaseResult(
        model=planned.name,
        note=planned.note,
        started=started,
        seconds=time.perf_counter() - clock,
        rows=rows_of(planned, outcomes, registered),
        drills=tried,
        tracking_uri=without_password(load_settings().tracking_uri),
    )
    written = write_report(result, tuple(outcomes.values()))
    logged = log_report(written, return_state=True)
    if logged.is_failed():
        progress.note(f"the report was written but not logged to MLflow: {logged.message}")
    return written


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


def _register(model: ExportedModel, planned: Plan, outcomes: dict[str, RegionOutcome]) -> dict[str, Registered]:
    """One version per region; a region that cannot be registered says why and leaves the others alone."""
    in_order = [outcomes[engine.request.build_key] for engine in planned.engines if engine.request]
    futures = {
        region: register.submit(model, tuple(of_region))
        for region, of_region in groupby(in_order, key=lambda outcome: outcome.region)
    }
    return {region: future.result(raise_on_failure=False) for region, future in futures.items()}

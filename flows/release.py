"""The main flow: one trained model in, one approved and registered engine per region out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.choices import Drills, DryRun, Force, ModelName, Regions, Targets
from flows.dispatch import dispatch
from flows.drills import drill_release
from flows.publish import publish_region
from regiolect import progress
from regiolect.contracts import Drill, ExportedModel, RegionAnswer, RegionOutcome, ReleaseResult
from regiolect.errors.redaction import redacted_address
from regiolect.planning import BuildOrder, Plan, RegionRequest, ReleaseRequest, finished, settle
from regiolect.release.outcome import Publication, refuse, rows_of
from regiolect.report import lines, markdown_plan
from regiolect.settings import load_settings, store_of
from tasks.export import export
from tasks.plan import plan
from tasks.publish import beside_champion
from tasks.report import link_report, log_report, write_report

# How many at once is Prefect's own setting: PREFECT_TASK_RUNNER_THREAD_POOL_MAX_WORKERS.
SIDE_BY_SIDE: TaskRunner[Any] = ThreadPoolTaskRunner()


@flow(
    name="release",
    flow_run_name="release-{model}",
    task_runner=SIDE_BY_SIDE,
)
def release(
    model: ModelName,
    regions: Regions = None,
    targets: Targets = None,
    force: Force = False,
    drills: Drills = False,
    dry_run: DryRun = False,
) -> ReleaseResult | None:
    """Build what changed, judge it, register what was approved, report everything.

    Args:
        model: address of the ModelSpec, `package.module:NAME`, or the name of an entry point.
        regions: regions to release; every region that has both a policy and data when left out.
        targets: targets to build for; every target of these regions' policies when left out.
        force: build again what did not change.
        drills: also try three engines that must be refused, and say whether they were.
        dry_run: only say what would be built and why.

    Returns:
        What the release did; None after a dry run, whose plan is an artifact of the run.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    planned = plan(ReleaseRequest.of(model, regions, targets, force=force))
    progress.note(planned.summary())
    if dry_run:
        create_markdown_artifact(markdown_plan(planned), key="release-plan", description=planned.summary())
        return None
    done = _release(planned, drills, force) if planned.requests() else Released(planned)
    result = ReleaseResult(
        model=planned.name,
        note=planned.note,
        export=done.export,
        started=started,
        seconds=time.perf_counter() - clock,
        rows=rows_of(done.plan, done.outcomes, done.built, done.published),
        left_out=done.left_out,
        drills=done.drills,
        tracking_uri=redacted_address(load_settings().tracking_uri),
    )
    return _report(result, tuple(done.outcomes.values()))


@dataclass(frozen=True)
class Released:
    """What a release had to show before its report: what was planned, with what was found out since; outcomes and newly
    built by build key, versions by region; classes of arithmetic that new versions are made without."""

    plan: Plan
    export: str = ""
    outcomes: Mapping[str, RegionOutcome] = field(default_factory=dict)
    built: frozenset[str] = frozenset()
    published: Mapping[str, Publication] = field(default_factory=dict)
    drills: tuple[Drill, ...] = ()
    left_out: tuple[str, ...] = ()


def _release(planned: Plan, drills: bool, force: bool) -> Released:
    requests = planned.requests()
    model = export(planned.address, tuple(dict.fromkeys(request.region for request in requests)))
    progress.note(f"export: {model.summary()}")
    reused = _reuse(planned)
    # Whatever the plan wanted to reuse and the store lost since is built as well.
    missing = tuple(beside_champion(request) for request in requests if request.build_key not in reused)
    answers = _build(missing, model, force)
    settled = settle(planned, answers, load_settings().store)
    outcomes = {**reused, **settled.outcomes}
    published = _publish(model, settled.plan, outcomes, force)
    tried = drill_release(settled.plan.requests(), outcomes, model, force) if drills else ()
    return Released(
        settled.plan, model.summary(), outcomes, settled.built, published, tried, left_out=settled.left_out()
    )


def _build(requests: tuple[RegionRequest, ...], model: ExportedModel, force: bool) -> dict[str, RegionAnswer]:
    """Regions side by side, by the build keys they were planned under; whatever happens to one is its own outcome."""
    futures = {
        dispatch.submit(BuildOrder(request=request, exported=model, force=force)): request for request in requests
    }
    answers = {}
    for count, future in enumerate(as_completed([*futures]), start=1):
        request, result = futures[future], future.result(raise_on_failure=False)
        if not isinstance(result, RegionAnswer):
            result = RegionAnswer(outcome=refuse(request, result, seconds=0.0), built=False)
        lines.done(result.outcome, count, len(futures))
        answers[request.build_key] = result
    return answers


def _reuse(planned: Plan) -> dict[str, RegionOutcome]:
    kept = {
        request.build_key: finished(request, store_of(request))
        for request in planned.requests("promote", "reuse", "carry", "refuse")
    }
    return {key: outcome for key, outcome in kept.items() if outcome is not None}


def _publish(
    model: ExportedModel, planned: Plan, outcomes: Mapping[str, RegionOutcome], force: bool
) -> dict[str, Publication]:
    """One version per region; a region that cannot be published says why and leaves the others alone."""
    futures = {}
    for region, group in groupby(planned.requests(), key=lambda request: request.region):
        requests = tuple(group)
        of_region = tuple(outcomes[request.build_key] for request in requests)
        untouched = planned.untouched(region)
        futures[region] = publish_region.submit(planned.address, model, of_region, requests[0].policy, untouched, force)
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

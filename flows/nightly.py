"""The nightly: every model in every region on every target, of which only what changed is built."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from prefect import flow, runtime, tags, task
from prefect.cache_policies import NO_CACHE

from flows.choices import DryRun, Models, Regions
from flows.deploy.deployments import NIGHTLY
from flows.release import SIDE_BY_SIDE, release
from regiolect import progress
from regiolect.contracts import NightlyResult, ReleaseResult, Trouble, failure_of
from regiolect.planning import engines_of
from regiolect.release.nightly import ModelWork, troubles_of, work_of
from regiolect.settings import load_settings
from tasks.nightly import link_digest, notify, plan_night, write_digest


def _name() -> str:
    """`nightly-eu` where it is one region's night, `nightly` for all of them."""
    return "-".join(["nightly", *(runtime.flow_run.parameters.get("regions") or ())])


@flow(name="nightly", flow_run_name=_name, task_runner=SIDE_BY_SIDE)
def nightly(models: Models = None, regions: Regions = None, dry_run: DryRun = False) -> NightlyResult:
    """Release whatever changed since the last night; leave everything else alone; send a digest.

    Args:
        models: addresses of the models; all that this installation knows when left out.
        regions: regions to release; every region that has a policy when left out.
        dry_run: only say what would be released.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    plans = plan_night(tuple(models or load_settings().known_models()), tuple(regions or ()))
    work = work_of(plans)
    progress.note(f"nightly: {sum(len(each.regions) for each in work)} regions of {len(work)} models to release")
    released = [] if dry_run else _release_all(work)
    engines = [engine for engine in engines_of(plans) if engine.action != "retire"]
    result = NightlyResult(
        started=started,
        seconds=time.perf_counter() - clock,
        models=len(plans),
        engines=len(engines),
        # A gate's no that stands is as unchanged as its yes.
        unchanged=sum(
            engine.action in ("reuse", "carry", "refuse") and engine.request is not None for engine in engines
        ),
        dry_run=dry_run,
        waiting=tuple(f"{each.address}: {', '.join(each.regions)}" for each in work) if dry_run else (),
        releases=tuple(each for each in released if isinstance(each, ReleaseResult)),
        troubles=(*troubles_of(plans), *(each for each in released if isinstance(each, Trouble))),
    )
    return _tell(result)


def _release_all(work: tuple[ModelWork, ...]) -> list[ReleaseResult | Trouble]:
    futures = [(each, release_model.submit(each)) for each in work]
    return [
        result if isinstance(result, ReleaseResult) else _trouble(each, result)
        for each, future in futures
        for result in [future.result(raise_on_failure=False)]
    ]


def _trouble(work: ModelWork, error: object) -> Trouble:
    failed = error if isinstance(error, BaseException) else RuntimeError(f"the release ended without a result: {error}")
    return Trouble(model=work.address, region=None, failure=failure_of(failed))


@task(name="release model", task_run_name="release-{work.address}", cache_policy=NO_CACHE)
def release_model(work: ModelWork) -> ReleaseResult | None:
    """The release flow of one model, for the regions that need it."""
    # Its builds wait behind those that people started: `dispatch` sends them to the queue of this name.
    with tags(NIGHTLY):
        return release(work.address, regions=list(work.regions))


def _tell(result: NightlyResult) -> NightlyResult:
    """Everything is done by now: a digest that cannot be written or sent is told, and hides nothing."""
    state = write_digest(result, return_state=True)
    written = state.result(raise_on_failure=False)
    if not isinstance(written, NightlyResult):
        progress.note(f"the digest could not be written: {written}")
        written = result
    block = load_settings().notify
    steps = [("linked in Prefect", link_digest(written, return_state=True))]
    if block:
        steps.append((f"sent through {block}", notify(block, written, return_state=True)))
    for what, step in steps:
        if not step.is_completed():
            progress.note(f"the digest was not {what}: {step.message}")
    return written

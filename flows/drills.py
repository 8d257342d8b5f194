"""Three deliberate refusals, run as a release would run the real thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import flow

from regiolect import progress
from regiolect.contracts import (
    ChosenGraph,
    Drill,
    EvaluationResult,
    ExportedModel,
    GateDecision,
    RegionOutcome,
    ValidatedCalibration,
)
from regiolect.planning import RegionRequest
from regiolect.release.drills import (
    FOREIGN,
    OVER_THRESHOLD,
    WORSE,
    DrillResults,
    beside_its_own,
    candidates,
    damaged,
    drill_key,
    drill_request,
    judge_broken,
    judge_foreign,
    judge_over_threshold,
    judge_worse,
    plain_graph,
    stated_graph,
    with_champion,
    worsened,
)
from regiolect.settings import store_of
from tasks.build import attest_engine, build
from tasks.calibrate import calibrate_region
from tasks.evaluate import evaluate, gate
from tasks.in_child import one_child
from tasks.validate import ingest_data, validate_data


def drill_release(
    requests: Sequence[RegionRequest], outcomes: Mapping[str, RegionOutcome], model: ExportedModel, force: bool
) -> tuple[Drill, ...]:
    """The drills of a release; when their region and donor did not change, what they gave before."""
    chosen = candidates(requests, outcomes)
    if chosen is None:
        progress.note("drills: not run, they need an INT8 region that was gated and a second region")
        return ()
    served = with_champion(requests, outcomes)
    store, key = store_of(chosen[0]), drill_key(*chosen, served)
    kept = None if force else store.get_record("drills", key, DrillResults)
    if kept is not None:
        return kept.drills
    state = run_drills(*chosen, model, served, outcomes[served.build_key] if served else None, return_state=True)
    results = state.result(raise_on_failure=False)
    if not isinstance(results, DrillResults):
        return (judge_broken(chosen[0], results),)
    # Only a pass is worth remembering: whatever else came of a drill is to be tried again.
    if all(drill.refused for drill in results.drills):
        store.put_record("drills", key, results)
    return results.drills


@flow(name="drills", flow_run_name="drills-{request.name}-{request.policy.region}")
def run_drills(
    request: RegionRequest,
    donor: RegionRequest,
    model: ExportedModel,
    served: RegionRequest | None = None,
    own: RegionOutcome | None = None,
) -> DrillResults:
    """Try to get past provenance with `donor`'s calibration, past the gate with a damaged one, and into the place of
    an approved engine with a worse model.

    Args:
        served: the region of that engine; without one the third is left out.
        own: what the release has there.
    """
    progress.note(f"drills: engines of {request.region} that must be refused")
    with one_child(f"the drills of {request.region}"):
        drills = _refusals(request, donor, model)
        if served is not None and own is not None:
            drills = (*drills, _worse_model(served, own, model))
    return DrillResults(drills=drills)


def _refusals(request: RegionRequest, donor: RegionRequest, model: ExportedModel) -> tuple[Drill, ...]:
    data = validate_data(request, ingest_data(request))
    table = calibrate_region(request, model, data)
    foreign = calibrate_region(donor, model, validate_data(donor, ingest_data(donor)))
    attempt = build.with_options(name="drill: build with foreign calibration")
    tried = attempt(drill_request(request, FOREIGN), model, data, stated_graph(request, foreign), return_state=True)
    _, decision = _judged(drill_request(request, OVER_THRESHOLD), model, data, stated_graph(request, damaged(table)))
    return (
        judge_foreign(request, foreign, tried.result(raise_on_failure=False)),
        judge_over_threshold(request, decision),
    )


def _worse_model(served: RegionRequest, own: RegionOutcome, model: ExportedModel) -> Drill:
    store = store_of(served)
    data = validate_data(served, ingest_data(served))
    evaluation, decision = _judged(drill_request(served, WORSE), worsened(model, store), data, plain_graph())
    return judge_worse(served, decision, beside_its_own(served, own, evaluation, store))


def _judged(
    request: RegionRequest, model: ExportedModel, data: ValidatedCalibration, graph: ChosenGraph
) -> tuple[EvaluationResult, GateDecision]:
    engine = build(request, model, data, graph)
    evaluation = evaluate(request, model, engine, data)
    return evaluation, gate(request, engine, attest_engine(engine), evaluation)

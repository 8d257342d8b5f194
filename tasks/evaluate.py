"""Engine against reference on the gate set, and the gate's answer."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect import progress
from regiolect.contracts import (
    ApprovedEngine,
    Attestation,
    Blob,
    EngineArtifact,
    EvaluationResult,
    ExportedModel,
    GateDecision,
    RegionOutcome,
    RegisteredEngine,
    TunedEngine,
    ValidatedCalibration,
    approved_engine,
)
from regiolect.errors import RegiolectError
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.planning import RegionRequest
from regiolect.registry import Registry
from regiolect.release import stages
from regiolect.release.champion import Champion, meet
from regiolect.settings import load_settings, store_of
from tasks.in_child import in_child


@task(name="evaluate", tags=["benchmark"], cache_policy=NO_CACHE)
def evaluate(
    request: RegionRequest,
    model: ExportedModel,
    engine: EngineArtifact,
    data: ValidatedCalibration,
    tuning: TunedEngine | None = None,
) -> EvaluationResult:
    return in_child(stages.evaluate, request, model, engine, data, tuning)


@task(name="time again", tags=["benchmark"], cache_policy=NO_CACHE)
def time_again(
    request: RegionRequest,
    model: ExportedModel,
    engine: EngineArtifact,
    data: ValidatedCalibration,
    evaluation: EvaluationResult,
    tuning: TunedEngine,
) -> EvaluationResult:
    return in_child(stages.time_again, request, model, engine, data, evaluation, tuning)


@task(name="meet champion", tags=["benchmark"], cache_policy=NO_CACHE)
def meet_champion(request: RegionRequest, outcome: RegionOutcome) -> None:
    """What cannot be done here is tried again where the engine is registered, and told there."""
    new = approved_engine(outcome)
    if new is None or request.champion is None:
        return

    def again(champion: RegisteredEngine, served: ApprovedEngine, new: ApprovedEngine) -> Blob:
        return in_child(stages.answer_again, request.address, request.policy, champion, served, new)

    try:
        # Reading what is registered needs no child, which would import MLflow for it; running it does.
        meet(Champion(request.champion, request.policy, again, store_of(request), Registry.of(load_settings())), new)
    except RegiolectError as error:
        progress.note(f"{request.region}: {request.champion.uri} was not run beside the new engine here: {error}")


@task(name="gate", cache_policy=NO_CACHE)
def gate(
    request: RegionRequest, engine: EngineArtifact, attestation: Attestation, evaluation: EvaluationResult
) -> GateDecision:
    rows = PairedResults.from_csv(store_of(request).path_of(evaluation.results))
    return decide_gate(engine, request.policy, attestation, evaluation, rows)

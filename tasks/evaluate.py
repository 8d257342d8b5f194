"""Engine against reference on the gate set, and the gate's answer."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.contracts import (
    Attestation,
    EngineArtifact,
    EvaluationResult,
    ExportedModel,
    GateDecision,
    TunedEngine,
    ValidatedCalibration,
)
from regiolect.evaluate.evaluate import evaluate_engine, timed_again
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.model import load_model_spec
from regiolect.planning import RegionRequest
from regiolect.settings import load_settings


@task(name="evaluate", tags=["benchmark"], cache_policy=NO_CACHE)
def evaluate(
    request: RegionRequest,
    model: ExportedModel,
    engine: EngineArtifact,
    data: ValidatedCalibration,
    tuning: TunedEngine | None = None,
) -> EvaluationResult:
    spec = load_model_spec(request.model)
    store = load_settings().store(request.region)
    return evaluate_engine(spec, model, engine, data.dataset.gate, request.policy, store, tuning)


@task(name="time again", tags=["benchmark"], cache_policy=NO_CACHE)
def time_again(
    request: RegionRequest,
    model: ExportedModel,
    engine: EngineArtifact,
    data: ValidatedCalibration,
    evaluation: EvaluationResult,
    tuning: TunedEngine,
) -> EvaluationResult:
    store = load_settings().store(request.region)
    return timed_again(model, engine, data.dataset.gate, request.policy, store, evaluation, tuning)


@task(name="gate", cache_policy=NO_CACHE)
def gate(
    request: RegionRequest, engine: EngineArtifact, attestation: Attestation, evaluation: EvaluationResult
) -> GateDecision:
    rows = PairedResults.from_csv(load_settings().store(request.region).path_of(evaluation.results))
    return decide_gate(engine, request.policy, attestation, evaluation, rows)

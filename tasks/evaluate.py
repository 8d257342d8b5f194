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
    ValidatedCalibration,
)
from regiolect.evaluate.evaluate import evaluate_engine
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.model import load_model_spec
from regiolect.planning import RegionRequest
from regiolect.settings import load_settings


@task(name="evaluate", tags=["benchmark"], cache_policy=NO_CACHE)
def evaluate(
    request: RegionRequest, model: ExportedModel, engine: EngineArtifact, data: ValidatedCalibration
) -> EvaluationResult:
    spec = load_model_spec(request.model)
    store = load_settings().store(request.region)
    return evaluate_engine(spec, model, engine, data.dataset.gate, request.policy, store)


@task(name="gate", cache_policy=NO_CACHE)
def gate(
    request: RegionRequest, engine: EngineArtifact, attestation: Attestation, evaluation: EvaluationResult
) -> GateDecision:
    rows = PairedResults.from_csv(load_settings().store(request.region).path_of(evaluation.results))
    return decide_gate(engine, request.policy, attestation, evaluation, rows)

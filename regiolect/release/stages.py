"""The stages of a release in which a vendor's library or the user's metric runs, each as one call.

They are given records alone, find model and stores by themselves, and return records: so each can run in a child.
"""

from __future__ import annotations

from regiolect import attest as attestations
from regiolect import progress
from regiolect.build import build_engine
from regiolect.calibrate.cached import cached_calibration, observe_for
from regiolect.contracts import (
    ApprovedEngine,
    Attestation,
    Blob,
    CalibrationTable,
    ChosenGraph,
    EngineArtifact,
    EvaluationResult,
    ExportedModel,
    Observation,
    RegionDataset,
    RegisteredEngine,
    TunedEngine,
    ValidatedCalibration,
)
from regiolect.engines.catalog import backend
from regiolect.evaluate.evaluate import evaluate_engine, timed_again
from regiolect.export.cached import export_for
from regiolect.host.lock import sharing_machine
from regiolect.ingest import ingest as ingest_sets
from regiolect.planning import RegionRequest, load_model_spec, require_planned
from regiolect.policy import RegionPolicy
from regiolect.registry import Registry
from regiolect.release.champion import run_again
from regiolect.repair import choose_graph
from regiolect.settings import load_settings, shared_store, store_of
from regiolect.tune.region import tune_region

# What takes long to import. Backends' libraries do not, and some start threads as soon as they are imported, which a
# fork loses.
PRELOADED = ("regiolect.release.stages", "scipy.stats", "onnx", "torch")


def export(address: str, regions: tuple[str, ...]) -> ExportedModel:
    """As `export_for`."""
    with sharing_machine():
        return export_for(load_model_spec(address), shared_store(), regions)


def ingest(request: RegionRequest) -> RegionDataset:
    """As `regiolect.ingest.ingest`, of the data that was planned with."""
    spec = load_model_spec(request.address)
    with sharing_machine():
        dataset = ingest_sets(
            spec.region_data(request.region), store_of(request), spec.inputs, spec.preprocessing.raw_dtype
        )
        require_planned(request, spec)
        return dataset


def observe(
    request: RegionRequest, model: ExportedModel, data: ValidatedCalibration, force: bool
) -> Observation | None:
    """As `observe_for`, by the policy's precision."""
    policy = request.policy
    with sharing_machine():
        return observe_for(
            policy.precision, model, data, store_of(request), max_age_days=policy.calibration.max_age_days, force=force
        )


def calibrate(request: RegionRequest, model: ExportedModel, data: ValidatedCalibration) -> CalibrationTable:
    """As `cached_calibration`, by the policy's method."""
    with sharing_machine():
        return cached_calibration(model, data, request.policy.calibration.method, store_of(request))


def choose(
    request: RegionRequest,
    model: ExportedModel,
    data: ValidatedCalibration,
    observation: Observation | None,
    force: bool,
) -> ChosenGraph:
    """As `choose_graph`."""
    spec = load_model_spec(request.address)
    return choose_graph(request, spec, model, data, observation, store_of(request), force=force, say=progress.note)


def build(
    request: RegionRequest, model: ExportedModel, data: ValidatedCalibration, chosen: ChosenGraph, force: bool
) -> EngineArtifact:
    """As `build_engine`."""
    with sharing_machine():
        return build_engine(request, model, data, chosen, store_of(request), force=force)


def attest(engine: EngineArtifact) -> Attestation:
    """As `regiolect.attest.attest`."""
    with sharing_machine():
        its = backend(engine.request.target.backend)
        return attestations.attest(its, engine, store_of(engine.request))


def tune(
    request: RegionRequest,
    model: ExportedModel,
    engine: EngineArtifact,
    data: ValidatedCalibration,
    minutes: float,
    force: bool,
) -> TunedEngine:
    """As `tune_region`."""
    return tune_region(request, model, engine, data, minutes, store_of(request), force=force, say=progress.note)


def evaluate(
    request: RegionRequest,
    model: ExportedModel,
    engine: EngineArtifact,
    data: ValidatedCalibration,
    tuning: TunedEngine | None,
) -> EvaluationResult:
    """As `evaluate_engine`, on the region's gate set."""
    spec, gate = load_model_spec(request.address), data.dataset.gate
    return evaluate_engine(spec, model, engine, gate, request.policy, store_of(request), tuning)


def time_again(
    request: RegionRequest,
    model: ExportedModel,
    engine: EngineArtifact,
    data: ValidatedCalibration,
    evaluation: EvaluationResult,
    tuning: TunedEngine,
) -> EvaluationResult:
    """As `timed_again`, on the region's gate set."""
    return timed_again(model, engine, data.dataset.gate, request.policy, store_of(request), evaluation, tuning)


def answer_again(
    address: str, policy: RegionPolicy, champion: RegisteredEngine, served: ApprovedEngine, new: ApprovedEngine
) -> Blob:
    """As `run_again`, with the registry and stores of this installation."""
    registry, spec = Registry.of(load_settings()), load_model_spec(address)
    with registry.downloaded(champion) as folder, sharing_machine():
        return run_again(champion, folder, served, new, policy, spec, store_of(policy), registry.keyring)

"""A region's engine, tuned on the region's own samples for what its policy asks for."""

from __future__ import annotations

from dataclasses import dataclass

from regiolect.contracts import (
    Attestation,
    EngineArtifact,
    EvaluationResult,
    ExportedModel,
    Performance,
    RegionOutcome,
    Split,
    TunedEngine,
    ValidatedCalibration,
    approved_engine,
)
from regiolect.data import model_inputs
from regiolect.engines.catalog import backend
from regiolect.errors import TuningError
from regiolect.evaluate.evaluate import own_samples
from regiolect.host.lock import sharing_machine
from regiolect.planning import RegionRequest, differences, latest_of, why_built
from regiolect.policy import RegionPolicy
from regiolect.storage import Store
from regiolect.tune.journal import Say
from regiolect.tune.run import tune_engine


def aim(policy: RegionPolicy) -> Performance:
    """What a region's engine is tuned for: latency also where the policy limits it, which the gate then judges by."""
    return Performance.LATENCY if policy.latency is not None else policy.performance


def judged_at_opt(policy: RegionPolicy) -> bool:
    """Whether the gate judges an engine by how fast batches of `batch.opt` are: then no other batch may be chosen."""
    return policy.latency is not None or policy.speed is not None


def tune_region(
    request: RegionRequest,
    model: ExportedModel,
    engine: EngineArtifact,
    data: ValidatedCalibration,
    minutes: float,
    store: Store,
    *,
    force: bool,
    say: Say,
) -> TunedEngine:
    """Tune an engine on samples of its region's selection set, as `tune_engine` does.

    Raises:
        TuningError, EngineError, StorageError: as `tune_engine`.
        ForeignSamples, InvalidSamples: the selection set cannot be read.
    """
    with sharing_machine():
        samples = own_samples(data.dataset.selection, Split.SELECTION, request.region, store)
        inputs = model_inputs(samples, model.preprocessing)
    return tune_engine(
        backend(request.target.backend),
        engine,
        inputs,
        store,
        minutes=minutes,
        tuned_for=aim(request.policy),
        at_default_batch=judged_at_opt(request.policy),
        force=force,
        say=lambda line: say(f"{request.region} {request.place}: {line}"),
    )


@dataclass(frozen=True)
class ApprovedParts:
    """A finished, approved outcome, and what it then has."""

    outcome: RegionOutcome
    engine: EngineArtifact
    attestation: Attestation
    evaluation: EvaluationResult


def approved_parts(outcome: RegionOutcome | None, request: RegionRequest, store: Store) -> ApprovedParts:
    """What is tuned, timed and judged: all of an approved engine.

    Args:
        store: the region's, which tells what an earlier run came to where there is no outcome.

    Raises:
        TuningError: there is no finished, approved outcome of the request's build key.
    """
    approved = approved_engine(outcome) if outcome is not None else None
    if outcome is None or approved is None:
        raise TuningError(
            expected=f"an approved engine of {request.name} for {request.region} on {request.place}, as its "
            "model, data, policy and this machine are now",
            found=_why_none(request, store) if outcome is None else f"{outcome.decision}: {outcome.reasons[0]}",
            remedy=f"regiolect run {request.address} --regions {request.region} --targets {request.target.name}",
        )
    return ApprovedParts(outcome, approved.engine, approved.attestation, approved.evaluation)


def _why_none(request: RegionRequest, store: Store) -> str:
    latest = latest_of(request, store)
    changed = differences(latest.key_parts, request, store) if latest is not None else ()
    return why_built(request, latest, changed)

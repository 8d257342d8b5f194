"""What differs between two engines: what they were built from, what they are, and what was measured of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regiolect.bundle.manifest import read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.cli.engine_facts import attached_table
from regiolect.cli.engine_names import bundle_called, nothing_called, outcome_called, version_called
from regiolect.cli.graph_facts import of_calibration
from regiolect.contracts import (
    UNITS,
    ApprovedEngine,
    Attestation,
    CalibrationTable,
    Contract,
    EngineArtifact,
    EvaluationResult,
    GateDecision,
    RegionOutcome,
    TunedEngine,
    short,
)
from regiolect.errors import UsageError
from regiolect.planning import OUTCOMES, Difference, Sources, differences_between
from regiolect.registry import Registry
from regiolect.report.words import size_words
from regiolect.settings import Settings
from regiolect.storage import Store
from regiolect.tune import words as tuning_words


class ComparedFact(Contract):
    """One fact of both engines, in words; `change` from the first to the second, empty where there is nothing to say
    of it."""

    name: str
    first: str
    second: str
    change: str


class EngineComparison(Contract):
    """Two engines in the same place, or the two that were named.

    inputs: in what their build keys differ; None: what one of them was built from is not kept here.
    """

    first: str
    second: str
    inputs: tuple[Difference, ...] | None
    facts: tuple[ComparedFact, ...]


class EngineDifference(Contract):
    """What differs from one version or engine to another; `alone` names the places that only one of them has."""

    format: Literal[1] = 1
    first: str
    second: str
    engines: tuple[EngineComparison, ...]
    alone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Engine:
    """One engine, wherever it was found."""

    artifact: EngineArtifact
    attestation: Attestation | None
    evaluation: EvaluationResult | None
    gate: GateDecision | None
    tuning: TunedEngine | None
    table: CalibrationTable | None
    key_parts: Mapping[str, str] | None
    sources: Sources

    @property
    def place(self) -> str:
        return self.artifact.request.place


def compare_engines(first: str, second: str, settings: Settings) -> EngineDifference:
    """Compare two engines, or two versions place by place, as `find_engine` finds them. Bytes of bundles are verified.

    Raises:
        UsageError: nothing has one of the names, no engine was built under it, or the two have no place in common.
        IntegrityError, StorageError, RegistryError: as `find_engine`.
    """
    old, new = (_engines(name, settings) for name in (first, second))
    pairs = list(zip(old, new, strict=True)) if len(old) == len(new) == 1 else _same_places(old, new)
    if not pairs:
        raise UsageError(
            expected=f"engines of {first} and {second} for the same place",
            found=f"{', '.join(engine.place for engine in old)}; {', '.join(engine.place for engine in new)}",
            remedy="name two engines by their build keys, which regiolect show tells",
        )
    compared = tuple(_compared(*pair) for pair in pairs)
    alone = (*_alone(first, old, [pair[0] for pair in pairs]), *_alone(second, new, [pair[1] for pair in pairs]))
    return EngineDifference(first=first, second=second, engines=compared, alone=alone)


def _same_places(old: tuple[Engine, ...], new: tuple[Engine, ...]) -> list[tuple[Engine, Engine]]:
    by_place = {engine.place: engine for engine in new}
    return [(engine, by_place[engine.place]) for engine in old if engine.place in by_place]


def _alone(name: str, engines: tuple[Engine, ...], paired: list[Engine]) -> Iterator[str]:
    return (f"{name}: {engine.place}" for engine in engines if not any(engine is each for each in paired))


def _engines(name: str, settings: Settings) -> tuple[Engine, ...]:
    folder = bundle_called(name)
    if folder is not None:
        return _of_bundle(folder, settings)
    kept = outcome_called(name, settings)
    if kept is not None:
        return (_of_outcome(name, *kept),)
    registry = Registry.of(settings)
    version = version_called(name, registry)
    if version is None:
        raise nothing_called(name, settings)
    with registry.downloaded(version) as bundle:
        return _of_bundle(bundle, settings)


def _of_outcome(name: str, outcome: RegionOutcome, store: Store) -> Engine:
    if outcome.engine is None:
        raise UsageError(
            expected=f"an engine under the build key {name}",
            found=f"{outcome.decision}: {'; '.join(outcome.reasons)}",
            remedy="name a build that came to an engine; regiolect show tells what became of this one",
        )
    return Engine(
        artifact=outcome.engine,
        attestation=outcome.attestation,
        evaluation=outcome.evaluation,
        gate=outcome.gate,
        tuning=outcome.tuning,
        table=outcome.calibration,
        key_parts=outcome.key_parts or None,
        sources=Sources.kept_in(store),
    )


def _of_bundle(folder: Path, settings: Settings) -> tuple[Engine, ...]:
    manifest = read_bundle(folder)
    verify_bundle(folder, manifest)
    store = settings.find_store(manifest.region)
    return tuple(_of_approved(approved, folder, store) for approved in manifest.engines)


def _of_approved(approved: ApprovedEngine, folder: Path, store: Store | None) -> Engine:
    key = approved.engine.request.build_key
    outcome = store.get_record(OUTCOMES, key, RegionOutcome) if store is not None else None
    return Engine(
        artifact=approved.engine,
        attestation=approved.attestation,
        evaluation=approved.evaluation,
        gate=approved.decision,
        tuning=approved.tuning,
        table=attached_table(approved.engine, folder),
        key_parts=outcome.key_parts or None if outcome is not None else None,
        sources=Sources.kept_in(store) if store is not None else Sources.unknown(),
    )


def _compared(old: Engine, new: Engine) -> EngineComparison:
    inputs: tuple[Difference, ...] | None = None
    if old.artifact.request.build_key == new.artifact.request.build_key:
        inputs = ()
    elif old.key_parts is not None and new.key_parts is not None:
        inputs = differences_between(old.key_parts, new.key_parts, old.sources, new.sources)
    first, second = dict(_facts(old)), dict(_facts(new))
    return EngineComparison(
        first=_called(old),
        second=_called(new),
        inputs=inputs,
        facts=tuple(
            ComparedFact(
                name=name,
                first=first.get(name, "-"),
                second=second.get(name, "-"),
                change=_changes(old, new).get(name, ""),
            )
            for name in dict.fromkeys([*first, *second])
        ),
    )


def _called(engine: Engine) -> str:
    request = engine.artifact.request
    return f"{request.model} {request.region} {request.place}, build {request.build_key}"


def _facts(engine: Engine) -> Iterator[tuple[str, str]]:
    artifact, request = engine.artifact, engine.artifact.request
    yield "target", request.place
    yield "backend", f"{request.target.backend} {artifact.backend_version}"
    yield "precision", request.precision.value
    if engine.attestation is not None:
        yield "executes", engine.attestation.summary()
    yield "calibration", _calibration(engine)
    if engine.gate is not None:
        yield from _of_gate(engine.gate)
    if engine.evaluation is not None:
        yield from _of_evaluation(engine.evaluation)
    yield "size", size_words(artifact.size)
    if engine.tuning is not None:
        yield "tuned", tuning_words.line(engine.tuning)


def _calibration(engine: Engine) -> str:
    digest = engine.artifact.calibration
    if digest is None or engine.table is None:
        return of_calibration(digest, None)
    return f"{of_calibration(None, engine.table)}; table {short(digest)}"


def _of_gate(gate: GateDecision) -> Iterator[tuple[str, str]]:
    unit = UNITS[gate.unit]
    yield "gate", gate.verdict.value
    yield "loss", f"{gate.loss:+z.2f} {unit}, at most {gate.loss_upper:+z.2f}, limit {gate.threshold:g}"


def _of_evaluation(evaluation: EvaluationResult) -> Iterator[tuple[str, str]]:
    yield evaluation.metric, f"{100 * evaluation.engine_score:.2f} %, FP32 {100 * evaluation.reference_score:.2f} %"
    yield "gate set", f"{evaluation.samples:,} samples, {short(evaluation.dataset)}"
    timing = evaluation.timing
    yield "p50", f"{timing.p50_ms:.3g} ms for {timing.batches} x {timing.batch}"
    yield "p99", f"{timing.p99_ms:.3g} ms"
    yield "throughput", f"{timing.throughput:,.0f}/s"
    yield "against FP32", f"{timing.speedup:.2f}x"


def _changes(old: Engine, new: Engine) -> Mapping[str, str]:
    """What became of figures that can be compared: of one gate, one metric, one batch."""
    changes = {"size": f"{new.artifact.size / old.artifact.size:.2f}x"} if old.artifact.size else {}
    if old.gate is not None and new.gate is not None and old.gate.unit is new.gate.unit:
        changes["loss"] = f"{new.gate.loss - old.gate.loss:+z.2f} {UNITS[new.gate.unit]}"
    before, after = old.evaluation, new.evaluation
    if before is None or after is None or before.metric != after.metric:
        return changes
    changes[after.metric] = f"{100 * (after.engine_score - before.engine_score):+z.2f} pt"
    return {**changes, **_of_times(before, after)}


def _of_times(before: EvaluationResult, after: EvaluationResult) -> Mapping[str, str]:
    old, new = before.timing, after.timing
    ratios = {"throughput": new.throughput / old.throughput, "against FP32": new.speedup / old.speedup}
    if (old.batch, old.batches) == (new.batch, new.batches):
        ratios |= {"p50": new.p50_ms / old.p50_ms, "p99": new.p99_ms / old.p99_ms}
    return {name: f"{ratio:.2f}x" for name, ratio in ratios.items()}

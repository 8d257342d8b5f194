"""What an engine is, wherever it lies: in the registry, in a bundle's folder, or in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regiolect.attest import read_layers
from regiolect.bundle.decisions import verify_decision
from regiolect.bundle.manifest import BundleManifest, attestation_path, calibration_path, read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.calibrate.archive import table_from_bytes
from regiolect.cli.engine_names import bundle_called, nothing_called, outcome_called, version_called
from regiolect.cli.graph_facts import of_calibration, of_repair, of_scores
from regiolect.contracts import (
    ApprovedEngine,
    Attestation,
    CalibrationTable,
    Contract,
    EngineArtifact,
    EvaluationResult,
    GateDecision,
    RegionOutcome,
    RegisteredEngine,
    TunedEngine,
    short,
)
from regiolect.errors import ForeignRegion, UntrustedEngine
from regiolect.host.files import RECORD, read_file
from regiolect.registry import Registry
from regiolect.report.words import STRENGTHS, fusion_words
from regiolect.serving.preflight import preflight, require_region
from regiolect.settings import Settings
from regiolect.signing.keyring import Keyring
from regiolect.storage import Store
from regiolect.tune import words as tuning_words


class EngineFact(Contract):
    """A fact, of one line or several."""

    name: str
    lines: tuple[str, ...]


class EngineDocument(Contract):
    """What `show` tells of an engine, in its order; of several engines in a bundle, one after the other."""

    format: Literal[1] = 1
    facts: tuple[EngineFact, ...]


@dataclass(frozen=True)
class EngineView:
    """Facts for a person, in reading order."""

    facts: tuple[tuple[str, str], ...]

    def document(self) -> EngineDocument:
        """The same for programs."""
        lines: list[tuple[str, list[str]]] = []
        for name, line in self.facts:
            if name or not lines:
                lines.append((name, [line]))
            else:
                lines[-1][1].append(line)
        return EngineDocument(facts=tuple(EngineFact(name=name.strip(), lines=tuple(of)) for name, of in lines))


def find_engine(name: str, settings: Settings) -> EngineView:
    """Find an engine and verify its bytes.

    Args:
        name: a bundle's folder, `MODEL-REGION[@ALIAS]`, `MODEL-REGION/NUMBER`, or the first digits of a build key.

    Raises:
        UsageError: nothing has that name.
        IntegrityError: its bytes are not those that were approved.
        StorageError: some of its bytes are no longer there.
        RegistryError: the registry cannot be read.
    """
    folder = bundle_called(name)
    if folder is not None:
        return _of_bundle(folder, str(folder.absolute()), settings.keyring(), settings.region)
    kept = outcome_called(name, settings)
    if kept is not None:
        return EngineView(facts=tuple(_of_outcome(*kept, settings.region)))
    registry = Registry.of(settings)
    version = version_called(name, registry)
    if version is None:
        raise nothing_called(name, settings)
    with registry.downloaded(version) as bundle:
        view = _of_bundle(bundle, version.uri, registry.keyring, settings.region)
    if not version.champion:
        held = registry.held(version)
        return view if held is None else EngineView(facts=(*view.facts, ("held back", f"not served: {held}")))
    return EngineView(facts=(*view.facts, ("champion", _promoted(registry.promoted(version)))))


def _promoted(champion: RegisteredEngine | None) -> str:
    if champion is None:
        return "NOT MADE BY A RELEASE: refused at loading"
    if champion.promoted_by is not None:
        return f"made by {champion.promoted_by}, signed, because: {champion.because}"
    return "made by a release, signed"


def _of_bundle(folder: Path, where: str, keyring: Keyring, here: str | None) -> EngineView:
    manifest = read_bundle(folder)
    verify_bundle(folder, manifest)
    facts = [("engine", where), ("bytes", "verified against the manifest"), *_of_manifest(manifest, here)]
    report = preflight([approved.engine for approved in manifest.engines])
    for approved, fit in zip(manifest.engines, report.engines, strict=True):
        facts.extend(_of_approved(approved, folder))
        facts.append(("signed", _signed(folder, manifest, approved, keyring)))
        facts.append(("this host", fit.summary()))
    return EngineView(facts=tuple(facts))


def _of_region(model: str, region: str, title: str, here: str | None) -> list[tuple[str, str]]:
    """The region, and why nothing of it is loaded on this host, if so."""
    facts = [("region", f"{region} ({title})")]
    try:
        require_region(model, region, here)
    except ForeignRegion as error:
        facts.append(("", f"REFUSED HERE: expected {error.expected}; {error.remedy}"))
    return facts


def _signed(folder: Path, manifest: BundleManifest, approved: ApprovedEngine, keyring: Keyring) -> str:
    """Who signed the decision and when, or why nobody loads the engine here."""
    try:
        opened = verify_decision(folder, manifest, approved, keyring.load_trust())
    except UntrustedEngine as error:
        return f"NOT TRUSTED HERE: {type(error).__name__}: expected {error.expected}; found {error.found}"
    return f"by {opened.key.who()} on {opened.signed:%Y-%m-%d %H:%M} UTC, trusted here"


def _of_manifest(manifest: BundleManifest, here: str | None) -> list[tuple[str, str]]:
    inputs = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in manifest.inputs)
    return [
        ("model", manifest.model),
        *_of_region(manifest.model, manifest.region, manifest.title, here),
        ("policy", manifest.policy),
        ("inputs", inputs),
        ("preprocessing", manifest.preprocessing.model_dump_json()),
    ]


def _of_approved(approved: ApprovedEngine, folder: Path) -> list[tuple[str, str]]:
    timing = approved.evaluation.timing
    layers = attestation_path(approved.engine.request.slot)
    return [
        *_of_artifact(approved.engine, attached_table(approved.engine, folder)),
        *_of_attestation(approved.attestation, layers, lambda: read_file(folder / layers, RECORD)),
        *of_scores(approved.evaluation),
        *_of_gate(approved.decision),
        *_of_tuning(approved.tuning),
        (
            "speed",
            f"{timing.p50_ms:.2f} ms median, {timing.p99_ms:.2f} ms p99 for {timing.batches} x {timing.batch} samples; "
            f"{timing.speedup:.2f}x FP32 on the machine that built it",
        ),
    ]


def attached_table(engine: EngineArtifact, folder: Path) -> CalibrationTable | None:
    """The calibration table beside an engine, as it was verified; bundles of format 1 have none.

    Raises:
        InvalidCalibration: it cannot be read.
    """
    path = folder / calibration_path(engine.request.slot)
    if engine.calibration is None or not path.is_file():
        return None
    return table_from_bytes(read_file(path, RECORD))


def _of_outcome(outcome: RegionOutcome, store: Store, here: str | None) -> list[tuple[str, str]]:
    facts = _of_region(outcome.model, outcome.region, outcome.title, here)
    facts.append(("decision", outcome.decision.value))
    if outcome.engine is not None:
        facts.append(("bytes", _verified(outcome.engine, outcome.evaluation, store)))
        facts.extend(_of_artifact(outcome.engine, outcome.calibration))
    facts.extend(of_repair(outcome))
    if outcome.attestation is not None:
        blob = outcome.attestation.layers
        facts.extend(
            _of_attestation(
                outcome.attestation,
                str(store.path_of(blob)) if blob else "",
                lambda: store.path_of(blob).read_bytes() if blob else b"",
            )
        )
    facts.extend(of_scores(outcome.evaluation))
    if outcome.gate is not None:
        facts.extend(_of_gate(outcome.gate))
    facts.extend(_of_tuning(outcome.tuning))
    if outcome.engine is not None:
        facts += [("this host", fit.summary()) for fit in preflight([outcome.engine]).engines]
    if outcome.failure is not None:
        facts += [("failure", f"{outcome.failure.kind}: {outcome.failure.found}"), ("remedy", outcome.failure.remedy)]
    return facts


def _of_attestation(attestation: Attestation, where: str, read: Callable[[], bytes]) -> list[tuple[str, str]]:
    """What executes; and, unless the engine is older than layers are, what was fused and where every layer is named."""
    facts = [("executes", f"{attestation.summary()} (from {attestation.source})")]
    if attestation.layers is not None:
        read_layers(attestation, read())
        strength = f"{STRENGTHS[attestation.strength]}; " if attestation.strength else ""
        facts.append(("layers", f"{fusion_words(attestation)}; {strength}by name in {where}"))
    return facts


def _verified(engine: EngineArtifact, evaluation: EvaluationResult | None, store: Store) -> str:
    for file in engine.files:
        store.path_of(file.blob)
    if evaluation is None:
        return "engine verified against its digests; it has no results"
    store.path_of(evaluation.results)
    return "engine and results verified against their digests"


def _of_artifact(engine: EngineArtifact, table: CalibrationTable | None) -> list[tuple[str, str]]:
    request = engine.request
    files = ", ".join(
        f"{file.path} ({file.blob.size / 1e6:.2f} MB, {short(file.blob.digest)})" for file in engine.files
    )
    return [
        ("target", f"{request.target.name} through {request.target.backend} {engine.backend_version}"),
        ("precision", request.precision.value),
        ("calibration", of_calibration(engine.calibration, table)),
        ("build key", request.build_key),
        ("files", files),
    ]


def _of_tuning(tuning: TunedEngine | None) -> list[tuple[str, str]]:
    """The default against the operating points; nothing for an engine that was not tuned."""
    if tuning is None:
        return []
    facts = [
        ("tuned", tuning_words.line(tuning)),
        ("tuned on", tuning_words.device(tuning)),
        ("journal", tuning.journal.uri),
    ]
    for name, batch, at_once, settings, p50, p99, throughput, against in tuning_words.rows(tuning):
        figures = f"{p50} median, {p99} p99, {throughput} ({against})"
        facts.append((f"  {name}", f"batch {batch} x {at_once}: {figures}; {settings}"))
    return facts


def _of_gate(decision: GateDecision) -> list[tuple[str, str]]:
    return [
        ("gate", f"{decision.verdict} on {decision.samples} samples"),
        *(("", reason) for reason in decision.reasons),
    ]

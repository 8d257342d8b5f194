"""The gate's decision: every rule of the policy, each with its figures, and one verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

from regiolect.contracts import (
    Attestation,
    Decision,
    EngineArtifact,
    EvaluationResult,
    GateDecision,
    short,
    surely_better,
)
from regiolect.errors import GateRefused, InvalidResults
from regiolect.evaluate.results import PairedResults
from regiolect.gate.accuracy import Bounded, accuracy_ruling, least_ruling
from regiolect.gate.losses import Evidence
from regiolect.gate.ruling import SEVERITY, UNITS, Ruling
from regiolect.gate.slices import judge_slices
from regiolect.gate.speed import speed_rulings
from regiolect.policy import RegionPolicy
from regiolect.precision import coarser_than, differs_by_arithmetic, traits, wider_or_equal


def decide_gate(
    engine: EngineArtifact,
    policy: RegionPolicy,
    attestation: Attestation,
    evaluation: EvaluationResult,
    rows: PairedResults,
) -> GateDecision:
    """Approve, fail or hold back one engine. Pure: equal arguments give an equal decision.

    Accuracy: the upper bound of the loss within the limit approves, the lower bound above it fails, anything else is
    inconclusive; so are fewer samples than the policy asks for. Where the policy states a lowest score, the lower bound
    of the engine's own must reach it, whatever its reference scores. Each slice that the policy names is judged as the
    whole is. Precision (graph and execution) only fails or holds. Latency, throughput and speed-up: the bound within
    the limit holds, the figure itself beyond it fails, anything else is inconclusive. The worst verdict of all rules is
    the engine's.

    Args:
        engine: the engine to decide on.
        policy: its region's policy.
        attestation: what graph and engine say of their precision.
        evaluation: the figures and the digest of the per-sample results.
        rows: those per-sample results, right/wrong answers (0 or 1) or scores in [0, 1].

    Returns:
        The decision. `reasons` holds the accuracy first, then every other rule; of an engine that is not approved, only
        the rules that speak against it. Last comes a warning where the engine is surely better than its reference by
        more than the limit: that blocks nothing.

    Raises:
        GateRefused: the engine or its graph is not attested, or the engine is another region's than the policy.
        InvalidResults: the results are not those of this engine and metric, a score is outside [0, 1], or a column to
            slice by has more than 1,000 values.
    """
    _check_attested(engine, policy, attestation)
    evidence = Evidence.of(rows, evaluation.metric)
    _check_results(engine, policy, evaluation, rows)
    losses = evidence.whole()
    accuracy = Bounded.of(losses, policy.accuracy, policy.accuracy.limit)
    score_lower, least = least_ruling(policy.accuracy, losses)
    slices, sliced = judge_slices(policy.accuracy, rows, evidence)
    rulings = [
        accuracy_ruling(policy.accuracy, losses, accuracy),
        *least,
        *_samples(policy, rows),
        *sliced,
        *_precision(engine, policy, attestation),
        *speed_rulings(policy, evaluation),
    ]
    verdict = max((ruling.verdict for ruling in rulings), key=SEVERITY.index)
    approved = verdict is Decision.APPROVED
    return GateDecision(
        outcome=verdict,
        metric=policy.accuracy.metric,
        unit=policy.accuracy.unit,
        loss=accuracy.loss,
        loss_lower=accuracy.lower,
        loss_upper=accuracy.upper,
        threshold=policy.accuracy.limit,
        confidence=policy.accuracy.confidence,
        samples=len(rows),
        samples_needed=_needed(rulings),
        slices=tuple(each.figures for each in slices),
        least=policy.accuracy.least,
        score_lower=score_lower,
        blocked_by=tuple(dict.fromkeys(ruling.rule for ruling in rulings if ruling.verdict is not Decision.APPROVED)),
        reasons=(
            *(ruling.reason for ruling in rulings if approved or ruling.verdict is not Decision.APPROVED),
            *_suspicious(policy, accuracy),
        ),
    )


def _suspicious(policy: RegionPolicy, accuracy: Bounded) -> list[str]:
    """A warning, no rule: what is better than its reference without a cause is told."""
    if not surely_better(accuracy.upper, accuracy.limit):
        return []
    unit, confidence = UNITS[policy.accuracy.unit], 100 * policy.accuracy.confidence
    return [
        f"suspicious: better than the reference by at least {-accuracy.upper:.2f} {unit} at {confidence:g} %, more "
        f"than the limit of {accuracy.limit:g}; if {policy.accuracy.metric!r} is an error, state "
        "Measure(..., greater_is_better=False)"
    ]


def _samples(policy: RegionPolicy, rows: PairedResults) -> list[Ruling]:
    fewest = policy.samples.gate
    if len(rows) >= fewest:
        return []
    return [
        Ruling(
            "samples",
            Decision.INCONCLUSIVE,
            f"samples: {len(rows):,} in the gate set, the policy asks for at least {fewest:,}, so inconclusive",
            fewest,
        )
    ]


def _needed(rulings: Sequence[Ruling]) -> int | None:
    """Samples for all rules that samples can help; None when there are enough, or when no number would approve."""
    held = [
        ruling.samples_needed
        for ruling in rulings
        if ruling.rule in ("accuracy", "samples", "slices") and ruling.verdict is not Decision.APPROVED
    ]
    counts = [needed for needed in held if needed is not None]
    return max(counts) if counts and len(counts) == len(held) else None


def _precision(engine: EngineArtifact, policy: RegionPolicy, attestation: Attestation) -> list[Ruling]:
    floor, built = policy.precision, engine.request.precision
    held = [
        ("graph holds", kind, traits(kind).execution, not wider_or_equal(kind, floor), count)
        for kind, count in attestation.graph.items()
    ]
    run = [
        ("engine executes", kind, kind, coarser_than(kind, floor), count)
        for kind, count in (attestation.executed or {}).items()
    ]
    wrong = []
    for does, kind, execution, coarser, count in (*held, *run):
        faults = [f"coarser than the policy's {floor}"] if coarser else []
        faults += [f"forbidden in region {policy.region!r}"] if execution in policy.forbidden else []
        if not faults and differs_by_arithmetic(execution) and not traits(built).by_arithmetic:
            # Engines of wider precisions are loaded in every class of arithmetic, and have no self-test.
            faults = [f"in an engine that was built as {built}"]
        if faults and count > 0:
            nodes = "1 compute node" if count == 1 else f"{count:,} compute nodes"
            wrong.append(
                Ruling("precision", Decision.FAILED, f"precision: the {does} {nodes} in {kind}, {' and '.join(faults)}")
            )
    if not wider_or_equal(built, floor):
        reason = f"precision: the engine was built as {built}, coarser than the policy's {floor}"
        wrong.append(Ruling("precision", Decision.FAILED, reason))
    return wrong or [
        Ruling(
            "precision",
            Decision.APPROVED,
            f"precision: {built} graph, executes {attestation.summary()} ({attestation.source}), "
            f"nothing coarser than {floor}",
        )
    ]


def _check_attested(engine: EngineArtifact, policy: RegionPolicy, attestation: Attestation) -> None:
    if not attestation.executed:
        raise GateRefused(
            expected="an attestation of what the engine executes",
            found=f"none, from {attestation.source}",
            remedy=f"decide on a machine that can run target {engine.request.target.name!r}",
        )
    if sum(attestation.graph.values()) == 0:
        raise GateRefused(
            expected="an attestation of the graph's compute nodes",
            found="no compute node in any precision",
            remedy="attest the engine again from its typed graph",
        )
    judged, ran = engine.request.arithmetic, attestation.arithmetic
    bound = any(map(differs_by_arithmetic, attestation.executed))
    if bound and judged is not None and ran is not judged:
        raise GateRefused(
            expected=f"an attestation from a machine of class {judged}, for which the engine was built",
            found=f"one of class {ran}" if ran is not None else "one that does not tell its class",
            remedy=f"attest, evaluate and decide on a machine of class {judged}",
        )
    if engine.request.region != policy.region:
        raise GateRefused(
            expected=f"an engine of region {policy.region!r}, whose policy this is",
            found=f"one of region {engine.request.region!r}",
            remedy="decide on it by its own region's policy",
        )
    if not math.isfinite(policy.accuracy.limit):
        raise GateRefused(
            expected="a finite accuracy.limit in the policy",
            found=f"{policy.accuracy.limit}",
            remedy=f"state the largest loss that region {policy.region!r} allows",
        )


def _check_results(
    engine: EngineArtifact, policy: RegionPolicy, evaluation: EvaluationResult, rows: PairedResults
) -> None:
    again = "evaluate this engine again"
    request = engine.request
    if evaluation.build_key != request.build_key:
        raise InvalidResults(
            expected=f"results of engine {short(request.build_key)}",
            found=f"results of {short(evaluation.build_key)}",
            remedy=again,
        )
    if evaluation.metric != policy.accuracy.metric:
        raise InvalidResults(
            expected=f"results of metric {policy.accuracy.metric!r}, which the policy names",
            found=f"metric {evaluation.metric!r}",
            remedy=again,
        )
    for name, stated, scores in (
        ("reference_score", evaluation.reference_score, rows.reference),
        ("engine_score", evaluation.engine_score, rows.engine),
    ):
        mean = float(scores.mean())
        if not abs(stated - mean) <= 1e-9:
            raise InvalidResults(
                expected=f"{name} {mean:.6f}, the mean of the per-sample results",
                found=f"{stated:.6f}",
                remedy=again,
            )
    digest = rows.digest
    if evaluation.samples != len(rows) or evaluation.results.digest != digest:
        raise InvalidResults(
            expected=f"the {evaluation.samples:,} per-sample results {short(evaluation.results.digest)}",
            found=f"{len(rows):,} results {short(digest)}",
            remedy=f"read them from the evaluation's `results`, or {again}",
        )

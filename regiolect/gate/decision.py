"""The gate's decision: every rule of the policy, each with its figures, and one outcome."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from regiolect.contracts import (
    Attestation,
    Decision,
    EngineArtifact,
    EvaluationResult,
    Execution,
    GateDecision,
    GateRule,
    LossUnit,
    short,
)
from regiolect.errors import GateRefused, InvalidResults
from regiolect.evaluate.results import PairedResults
from regiolect.evaluate.timing import rounds_for_p99
from regiolect.gate.bounds import loss_bounds, minimum_samples, relative_loss_bounds, samples_needed
from regiolect.gate.tally import Tally, require_right_or_wrong, tally
from regiolect.integrity import digest_bytes
from regiolect.policy import AccuracyLimit, RegionPolicy
from regiolect.precision import coarser_than

Outcome = Literal[Decision.APPROVED, Decision.INCONCLUSIVE, Decision.FAILED]

_SEVERITY: tuple[Outcome, ...] = (Decision.APPROVED, Decision.INCONCLUSIVE, Decision.FAILED)
_UNIT = {LossUnit.ABSOLUTE_POINTS: "points", LossUnit.RELATIVE_PERCENT: "% of the reference's score"}


def decide_gate(
    engine: EngineArtifact,
    policy: RegionPolicy,
    attestation: Attestation,
    evaluation: EvaluationResult,
    rows: PairedResults,
) -> GateDecision:
    """Approve, fail or hold back one engine. Pure: equal arguments give an equal decision.

    Accuracy: the upper bound of the loss within the limit approves, the lower bound above it fails, anything else is
    inconclusive; so are fewer samples than the policy asks for. Precision (graph and execution) only fails or holds.
    Latency: the upper bound of the 99th percentile within the limit holds, a 99th percentile seen above it fails,
    anything else is inconclusive. The worst outcome of all rules is the engine's.

    Args:
        engine: the engine to decide on.
        policy: its region's policy.
        attestation: what graph and engine say of their precision.
        evaluation: the figures and the digest of the per-sample results.
        rows: those per-sample results; each score 0 or 1.

    Returns:
        The decision. `reasons` holds the accuracy first, then every other rule; of an engine that is not approved, only
        the rules that speak against it.

    Raises:
        GateRefused: the engine or its graph is not attested, or the engine is another region's than the policy.
        InvalidResults: the results are not those of this engine and metric, or are not right/wrong scores.
    """
    _check_attested(engine, policy, attestation)
    _check_results(engine, policy, evaluation, rows)
    accuracy = _Accuracy.of(policy.accuracy, rows)
    verdicts = [
        accuracy.verdict(policy.accuracy),
        *_samples(policy, rows),
        *_precision(engine, policy, attestation),
        *_latency(policy, evaluation),
    ]
    outcome = max((verdict.outcome for verdict in verdicts), key=_SEVERITY.index)
    approved = outcome is Decision.APPROVED
    return GateDecision(
        outcome=outcome,
        metric=policy.accuracy.metric,
        unit=policy.accuracy.unit,
        loss=accuracy.loss,
        loss_lower=accuracy.lower,
        loss_upper=accuracy.upper,
        threshold=policy.accuracy.limit,
        confidence=policy.accuracy.confidence,
        samples=len(rows),
        samples_needed=_needed(verdicts[0], policy, rows),
        blocked_by=tuple(
            dict.fromkeys(verdict.rule for verdict in verdicts if verdict.outcome is not Decision.APPROVED)
        ),
        reasons=tuple(verdict.reason for verdict in verdicts if approved or verdict.outcome is not Decision.APPROVED),
    )


@dataclass(frozen=True)
class _Verdict:
    """What one rule says."""

    rule: GateRule
    outcome: Outcome
    reason: str
    samples_needed: int | None = None


@dataclass(frozen=True)
class _Accuracy:
    """The paired table and its loss with bounds, in the policy's unit."""

    counts: Tally
    loss: float
    lower: float
    upper: float

    @classmethod
    def of(cls, rule: AccuracyLimit, rows: PairedResults) -> _Accuracy:
        seen = tally(rows)
        if rule.unit is LossUnit.RELATIVE_PERCENT:
            lower, upper = relative_loss_bounds(seen.lost, seen.gained, seen.right, seen.samples, rule.confidence)
        else:
            lower, upper = loss_bounds(seen.lost, seen.gained, seen.samples, rule.confidence)
        return cls(seen, 100 * seen.loss(rule.unit), 100 * lower, 100 * upper)

    def verdict(self, rule: AccuracyLimit) -> _Verdict:
        limit, sure = rule.limit, f"{100 * rule.confidence:g} %"
        n, lost, gained, right = self.counts.samples, self.counts.lost, self.counts.gained, self.counts.right
        digits = _digits(limit, self.upper, self.lower)
        said = (
            f"{rule.metric}: loss {self.loss:.{digits}f} {_UNIT[rule.unit]} "
            f"({lost:,} {'answer' if lost == 1 else 'answers'} lost, {gained:,} gained of {n:,}), "
        )
        if self.upper <= limit:
            return _Verdict(
                "accuracy", Decision.APPROVED, f"{said}at most {self.upper:.{digits}f} at {sure}, limit {limit:g}"
            )
        if self.lower > limit:
            return _Verdict(
                "accuracy", Decision.FAILED, f"{said}at least {self.lower:.{digits}f} at {sure}, limit {limit:g}"
            )
        # A relative limit becomes an absolute one at the reference's score as it was seen.
        relative = rule.unit is LossUnit.RELATIVE_PERCENT
        share = limit / 100 * (right / n if relative else 1.0)
        needed = samples_needed(lost, gained, n, share, rule.confidence)
        said += f"at most {self.upper:.{digits}f} at {sure}, limit {limit:g}, so inconclusive"
        fewest = minimum_samples(share, rule.confidence) if share > 0 else 0
        if fewest > n:
            at_least = "about" if relative else "at least"
            said += f"; {limit:g} {_UNIT[rule.unit]} at {sure} needs {at_least} {fewest:,} samples, have {n:,}"
        if needed is None:
            said += "; at the loss seen no number of samples would approve"
        elif lost + gained > 0:
            said += f"; about {needed:,} samples are needed at the disagreement seen, have {n:,}"
        return _Verdict("accuracy", Decision.INCONCLUSIVE, said, needed)


def _samples(policy: RegionPolicy, rows: PairedResults) -> list[_Verdict]:
    fewest = policy.samples.gate
    if len(rows) >= fewest:
        return []
    return [
        _Verdict(
            "samples",
            Decision.INCONCLUSIVE,
            f"samples: {len(rows):,} in the gate set, the policy asks for at least {fewest:,}, so inconclusive",
        )
    ]


def _needed(accuracy: _Verdict, policy: RegionPolicy, rows: PairedResults) -> int | None:
    """Samples for both rules; None when there are enough, or when no number would approve."""
    if len(rows) >= policy.samples.gate or (
        accuracy.outcome is not Decision.APPROVED and accuracy.samples_needed is None
    ):
        return accuracy.samples_needed
    return max(policy.samples.gate, accuracy.samples_needed or 0)


def _digits(limit: float, *figures: float) -> int:
    """Decimals that tell every figure from the limit; from 2 to 6."""
    for digits in range(2, 6):
        if all(f"{figure:.{digits}f}" != f"{limit:.{digits}f}" for figure in figures if figure != limit):
            return digits
    return 6


def _precision(engine: EngineArtifact, policy: RegionPolicy, attestation: Attestation) -> list[_Verdict]:
    floor = policy.precision
    held = [("graph holds", Execution(kind), count) for kind, count in attestation.graph.items()]
    run = [("engine executes", kind, count) for kind, count in (attestation.executed or {}).items()]
    wrong = []
    for does, kind, count in held + run:
        faults = [f"coarser than the policy's {floor}"] if coarser_than(kind, floor) else []
        faults += [f"forbidden in region {policy.region!r}"] if kind in policy.forbidden else []
        if faults and count > 0:
            nodes = "1 compute node" if count == 1 else f"{count:,} compute nodes"
            wrong.append(
                _Verdict(
                    "precision", Decision.FAILED, f"precision: the {does} {nodes} in {kind}, {' and '.join(faults)}"
                )
            )
    if coarser_than(Execution(engine.request.precision), floor):
        said = f"precision: the engine was built as {engine.request.precision}, coarser than the policy's {floor}"
        wrong.append(_Verdict("precision", Decision.FAILED, said))
    return wrong or [
        _Verdict(
            "precision",
            Decision.APPROVED,
            f"precision: {engine.request.precision} graph, executes {attestation.summary()} ({attestation.source}), "
            f"nothing coarser than {floor}",
        )
    ]


def _latency(policy: RegionPolicy, evaluation: EvaluationResult) -> list[_Verdict]:
    if policy.latency is None:
        return []
    timing, limit = evaluation.timing, policy.latency.p99_ms
    sure = f"{100 * policy.accuracy.confidence:g} %"
    if (timing.batch, timing.batches) != (policy.batch.opt, 1):
        said = (
            f"latency: the limit is on one batch of {policy.batch.opt}, timed were {timing.batches} of {timing.batch} "
            "at once, so inconclusive"
        )
        return [_Verdict("latency", Decision.INCONCLUSIVE, said)]
    p99, upper = timing.p99_ms, timing.p99_upper_ms
    digits = _digits(limit, p99, *([] if upper is None else [upper]))
    said = f"latency: p99 {p99:.{digits}f} ms at batch {timing.batch}, "
    bound = "no bound" if upper is None else f"at most {upper:.{digits}f} ms"
    said += f"{bound} at {sure} from {timing.rounds:,} rounds, limit {limit:g} ms"
    if upper is not None and max(p99, upper) <= limit:
        return [_Verdict("latency", Decision.APPROVED, said)]
    if p99 > limit:
        return [_Verdict("latency", Decision.FAILED, said)]
    needed = _rounds_needed(timing.rounds, policy.accuracy.confidence)
    return [
        _Verdict("latency", Decision.INCONCLUSIVE, f"{said}, so inconclusive; at least {needed:,} rounds are needed")
    ]


def _rounds_needed(rounds: int, confidence: float) -> int:
    """The fewest rounds that let one more of them exceed the bound than these let; the fewest for a bound at all."""
    above = 0
    while rounds_for_p99(confidence, above) <= rounds:
        above += 1
    return rounds_for_p99(confidence, above)


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
    require_right_or_wrong(rows, evaluation.metric)
    for name, told, scores in (
        ("reference_score", evaluation.reference_score, rows.reference),
        ("engine_score", evaluation.engine_score, rows.engine),
    ):
        seen = float(scores.mean())
        if not abs(told - seen) <= 1e-9:
            raise InvalidResults(
                expected=f"{name} {seen:.6f}, the mean of the per-sample results",
                found=f"{told:.6f}",
                remedy=again,
            )
    digest = digest_bytes(rows.to_csv())
    if evaluation.samples != len(rows) or evaluation.results.digest != digest:
        raise InvalidResults(
            expected=f"the {evaluation.samples:,} per-sample results {short(evaluation.results.digest)}",
            found=f"{len(rows):,} results {short(digest)}",
            remedy=f"read them from the evaluation's `results`, or {again}",
        )

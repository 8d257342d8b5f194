"""What became of a region: from the stages' results, or from the error that stopped it, to one outcome and one row."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from regiolect.contracts import (
    Attestation,
    CheckResult,
    ChosenGraph,
    Decision,
    EngineArtifact,
    EvaluationResult,
    GateDecision,
    Published,
    RegionOutcome,
    RegisteredEngine,
    ReleaseRow,
    TunedEngine,
    ValidatedCalibration,
    failure_of,
)
from regiolect.errors import ForeignArithmetic, TuningError
from regiolect.planning import Plan, PlannedEngine, RegionRequest


def conclude(
    request: RegionRequest,
    data: ValidatedCalibration,
    chosen: ChosenGraph,
    engine: EngineArtifact,
    attestation: Attestation,
    evaluation: EvaluationResult | None,
    decision: GateDecision | None,
    seconds: float,
    tuning: TunedEngine | None = None,
) -> RegionOutcome:
    """The outcome of a build that ran to its end. Without a gate decision the engine is built, not attested."""
    return RegionOutcome(
        # As the engine itself names it, and the bundle that will hold it: in the words that it is signed with.
        **_head(request, seconds) | {"policy": engine.request.policy},
        decision=decision.verdict if decision else Decision.NOT_ATTESTED,
        reasons=(
            *(decision.reasons if decision else (f"not attested: {attestation.source}",)),
            *_repaired(request, chosen),
        ),
        chosen=chosen,
        checks=data.checks,
        engine=engine,
        attestation=attestation,
        evaluation=evaluation,
        gate=decision,
        tuning=tuning,
    )


def retuned(
    outcome: RegionOutcome, tuning: TunedEngine, evaluation: EvaluationResult, decision: GateDecision
) -> RegionOutcome:
    """An approved outcome whose engine was tuned after it: timed anew and judged anew on the same results.

    Raises:
        TuningError: as it is tuned, the gate would not approve it. What is kept of it stays.
    """
    if decision.verdict is not Decision.APPROVED:
        raise TuningError(
            expected=f"an engine of {outcome.region} on {outcome.target.name} that the gate approves as tuned",
            found=f"{decision.verdict}: {'; '.join(decision.reasons)}",
            remedy="it stays as it was; tune it again when the machine is quiet: regiolect tune MODEL --force",
        )
    kept = outcome.reasons[len(outcome.gate.reasons) :] if outcome.gate is not None else ()
    changed = {"evaluation": evaluation, "gate": decision, "tuning": tuning, "reasons": (*decision.reasons, *kept)}
    return outcome.model_copy(update=changed)


def refuse(request: RegionRequest, error: BaseException, seconds: float) -> RegionOutcome:
    """The outcome of a build that an error stopped."""
    failure = failure_of(error)
    checks: tuple[CheckResult, ...] = getattr(error, "checks", ())
    return RegionOutcome(
        **_head(request, seconds),
        decision=Decision.REFUSED,
        reasons=(f"{failure.kind}: expected {failure.expected}; found {failure.found}",),
        checks=checks,
        journal=getattr(error, "journal", None),
        failure=failure,
    )


def is_of_another_class(outcome: RegionOutcome) -> bool:
    """Whether a machine gave the work back because it computes in another class of arithmetic."""
    return outcome.failure is not None and outcome.failure.kind == ForeignArithmetic.__name__


def _repaired(request: RegionRequest, chosen: ChosenGraph) -> tuple[str, ...]:
    """Why another graph than the stated one was built, or why repair ended early or never began, if so."""
    if chosen.unrepaired is not None:
        return (f"graph: {chosen.choice.summary()}, {chosen.unrepaired}",)
    journal = chosen.journal
    if journal is None or (journal.stopped is None and chosen.choice == request.policy.stated_choice()):
        return ()
    return (f"graph: {journal.told}",)


def _head(request: RegionRequest, seconds: float) -> dict[str, object]:
    return {
        "model": request.name,
        "region": request.region,
        "title": request.policy.title,
        "target": request.target,
        "arithmetic": request.arithmetic,
        "precision": request.policy.precision,
        "policy": request.policy.digest(),
        "build_key": request.build_key,
        "key_parts": request.key_parts,
        "seconds": seconds,
    }


Publication = Published | Exception | None
"""What a region serves after the release, why that could not be had, or None: it was not asked for anything."""


def rows_of(
    planned: Plan,
    outcomes: Mapping[str, RegionOutcome],
    built: Collection[str],
    published: Mapping[str, Publication],
) -> tuple[ReleaseRow, ...]:
    """The table of a release, one line per region and target in the plan's order.

    Args:
        outcomes: by build key.
        built: build keys of what this run built.
        published: by region.
    """
    return tuple(
        _row(outcomes[engine.request.build_key], engine.request.build_key in built, published.get(engine.region))
        if engine.request
        else _refused_row(engine)
        for engine in planned.engines
        if engine.action not in ("skip", "retire", "drop")
    )


def _row(outcome: RegionOutcome, rebuilt: bool, publication: Publication) -> ReleaseRow:
    decision, evaluation = outcome.gate, outcome.evaluation
    timing = evaluation.timing if evaluation else None
    failure = outcome.failure
    published = publication if isinstance(publication, Published) else Published(champion=None)
    champion = published.champion
    served = champion if champion is not None and outcome.build_key in champion.build_keys else None
    stale = champion if served is None else None
    if outcome.decision is Decision.APPROVED and served is None:
        failure = failure_of(publication) if isinstance(publication, Exception) else published.held
    return ReleaseRow(
        region=outcome.region,
        title=outcome.title,
        target=outcome.target.name,
        arithmetic=outcome.arithmetic,
        backend=outcome.target.backend,
        precision=outcome.engine.request.precision if outcome.engine else outcome.precision,
        asked=outcome.precision,
        executed=outcome.attestation.summary() if outcome.attestation else None,
        decision=outcome.decision,
        loss=decision.loss if decision else None,
        loss_lower=decision.loss_lower if decision else None,
        loss_upper=decision.loss_upper if decision else None,
        threshold=decision.threshold if decision else None,
        unit=decision.unit if decision else None,
        confidence=decision.confidence if decision else None,
        samples=decision.samples if decision else None,
        speedup=timing.speedup if timing else None,
        p50_ms=timing.p50_ms if timing else None,
        p99_ms=timing.p99_ms if timing else None,
        rebuilt=rebuilt,
        seconds=outcome.seconds,
        against=next((each for each in published.comparisons if each.engine == outcome.build_key), None),
        model_uri=f"models:/{served.name}@champion" if served else None,
        build_key=outcome.build_key,
        reasons=(*outcome.reasons, *_still_served(stale, outcome)),
        failure=failure,
    )


def _still_served(champion: RegisteredEngine | None, outcome: RegionOutcome) -> tuple[str, ...]:
    """A warning where consumers go on loading something else than this outcome."""
    if champion is None or not champion.serves(outcome.target.name, outcome.arithmetic):
        return ()
    policy = "today's policy" if champion.policy == outcome.policy else "another policy than today's"
    return (f"still served: {champion.uri} is champion, approved under {policy}",)


def _refused_row(planned: PlannedEngine) -> ReleaseRow:
    never_measured = ("loss", "loss_lower", "loss_upper", "threshold", "unit", "confidence", "samples")
    never_built = ("executed", "speedup", "p50_ms", "p99_ms", "model_uri", "build_key", "backend")
    nothing: Mapping[str, None] = dict.fromkeys([*never_measured, *never_built])
    return ReleaseRow(
        **nothing,
        region=planned.region,
        title=planned.title,
        target=planned.target,
        arithmetic=planned.arithmetic,
        precision=planned.precision,
        asked=planned.precision,
        decision=Decision.REFUSED,
        rebuilt=False,
        seconds=0.0,
        reasons=(planned.reason,),
        failure=planned.failure,
    )

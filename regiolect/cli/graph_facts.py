"""How an engine's graph came to be, for people: its calibration, what repair tried, and what the graph scored."""

from __future__ import annotations

from datetime import UTC

from regiolect.contracts import (
    UNITS,
    CalibrationTable,
    EvaluationResult,
    RegionOutcome,
    RepairJournal,
    RepairStep,
)
from regiolect.report.words import counted


def of_calibration(digest: str | None, table: CalibrationTable | None) -> str:
    """The method, what it saw and when: `entropy on 256 samples of eu, 2026-03-04 05:06 UTC; table sha256:12ab...`."""
    if table is None:
        return digest or "none needed"
    seal = table.seal
    kept = f"; table {digest}" if digest is not None else ""
    made = seal.made.astimezone(UTC)
    return f"{table.method} on {counted(seal.samples, 'sample')} of {seal.region}, {made:%Y-%m-%d %H:%M} UTC{kept}"


def of_scores(evaluation: EvaluationResult | None) -> list[tuple[str, str]]:
    """Reference and engine side by side; nothing where none was scored."""
    if evaluation is None:
        return []
    reference, engine = (f"{100 * score:.2f} %" for score in (evaluation.reference_score, evaluation.engine_score))
    samples = counted(evaluation.samples, "gate sample")
    return [("scores", f"{evaluation.metric} {engine}, FP32 reference {reference}, on the same {samples}")]


def of_repair(outcome: RegionOutcome) -> list[tuple[str, str]]:
    """Why the graph is what it is, and each graph that was tried; nothing where there was nothing to choose."""
    chosen, journal = outcome.chosen, outcome.repair
    if chosen is not None and chosen.unrepaired is not None:
        return [("repair", f"{chosen.choice.summary()}: {chosen.unrepaired}")]
    if journal is None:
        return []
    tried = f"{counted(len(journal.steps), 'graph')} tried on {counted(journal.samples, 'selection sample')}"
    facts = [("repair", f"{journal.told}; {tried}")]
    for step in journal.steps:
        is_chosen = chosen is not None and step.choice == journal.chosen
        facts.append(("", f"{step.choice.summary()}: {_step(step, journal)}{', chosen' if is_chosen else ''}"))
    if journal.comparison is not None:
        beside = journal.comparison
        facts.append(("", beside.told))
    return facts


def _step(step: RepairStep, journal: RepairJournal) -> str:
    if step.failure is not None:
        return f"unusable, {step.failure}"
    unit = UNITS[journal.unit]
    loss = f"loss {step.loss:+z.2f} {unit}, at most {step.loss_upper:+z.2f}, limit {journal.limit:g} {unit}"
    return f"{loss}, {_verdict(step, journal)}"


def _verdict(step: RepairStep, journal: RepairJournal) -> str:
    if step.accepted:
        return "within the limit"
    if step.slice is not None:
        return f"not within the limit on {step.slice}"
    return "not surely within the limit" if step.loss <= journal.limit else "over the limit"

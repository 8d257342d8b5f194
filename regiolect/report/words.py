"""How the report says things: figures with sign and unit, precision in words, addresses without passwords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from regiolect.contracts import (
    UNITS,
    Attestation,
    ChampionComparison,
    Decision,
    EvaluationResult,
    Execution,
    GateDecision,
    ReleaseRow,
    Strength,
    surely_better,
)
from regiolect.precision import traits

# Each decision has a sign as well as a colour: neither print nor every eye keeps colours apart.
SIGNS: Mapping[Decision, str] = {
    Decision.APPROVED: "✓",
    Decision.FAILED: "✕",
    Decision.INCONCLUSIVE: "?",
    Decision.NOT_ATTESTED: "◌",
    Decision.REFUSED: "⊘",
}
MEANINGS: Mapping[Decision, str] = {
    Decision.APPROVED: "the whole interval of the loss is within the limit, and every other rule of the policy holds",
    Decision.FAILED: "over the limit for certain, or another rule of the policy is broken",
    Decision.INCONCLUSIVE: "the limit lies inside the interval: neither proven, so not approved",
    Decision.NOT_ATTESTED: "kept, but no device here runs it, so it is neither judged nor served",
    Decision.REFUSED: "no engine came to the gate",
}
# How strongly an engine's word on its own types binds it.
STRENGTHS: Mapping[Strength, str] = {
    "kernels": "each kernel names the type that it computes in",
    "graph": "weaker: only the types that go into and out of each kernel are told",
}


@dataclass(frozen=True)
class LossFigures:
    """A loss, its bounds and its limit, all in `unit`, ready to be shown."""

    loss: float
    lower: float
    upper: float
    limit: float
    unit: str
    confidence: str

    @classmethod
    def of(cls, judged: ReleaseRow | GateDecision) -> LossFigures | None:
        """The figures of a row or of a decision; None where any is missing, that is where no gate decided."""
        if (
            judged.loss is None
            or judged.loss_lower is None
            or judged.loss_upper is None
            or judged.threshold is None
            or judged.unit is None
            or judged.confidence is None
        ):
            return None
        return cls(
            loss=judged.loss,
            lower=judged.loss_lower,
            upper=judged.loss_upper,
            limit=judged.threshold,
            unit=UNITS[judged.unit],
            confidence=f"{100 * judged.confidence:g} %",
        )

    @property
    def digits(self) -> int:
        """Decimals that tell both bounds from the limit, so that no decision looks like a contradiction; 2 to 6."""
        for digits in range(2, 6):
            limit = f"{self.limit:.{digits}f}"
            if all(f"{bound:.{digits}f}" != limit for bound in (self.lower, self.upper) if bound != self.limit):
                return digits
        return 6

    def signed(self, value: float) -> str:
        """`+0.20`: with a sign, without a negative zero."""
        return f"{value:+z.{self.digits}f}"

    @property
    def said(self) -> str:
        """`+0.20 pt`."""
        return f"{self.signed(self.loss)} {self.unit}"

    @property
    def bounds(self) -> str:
        """`-0.19 to +0.42`."""
        return f"{self.signed(self.lower)} to {self.signed(self.upper)}"

    @property
    def allowed(self) -> str:
        """`2 pt`."""
        return f"{self.limit:g} {self.unit}"


@dataclass(frozen=True)
class ChampionFigures:
    """An engine against the one that was served before it, ready to be shown."""

    figures: LossFigures | None
    comparison: ChampionComparison

    @classmethod
    def of(cls, row: ReleaseRow) -> ChampionFigures | None:
        """None where nothing was served before, or the very same engine."""
        against = row.against
        if against is None:
            return None
        if against.loss is None or against.loss_lower is None or against.loss_upper is None:
            return cls(None, against)
        figures = LossFigures(
            loss=against.loss,
            lower=against.loss_lower,
            upper=against.loss_upper,
            limit=against.limit,
            unit=UNITS[against.unit],
            confidence=f"{100 * against.confidence:g} %",
        )
        return cls(figures, against)

    @property
    def said(self) -> str:
        """`+0.20 pt`, as a loss: positive is worse than what was served."""
        return self.figures.said if self.figures else "not compared"

    @property
    def bounds(self) -> str:
        """`-0.19 to +0.42`; empty where the two were not compared."""
        return self.figures.bounds if self.figures else ""


def counted(number: int, noun: str) -> str:
    """`1 engine`, `3 engines`, `4,000 samples`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def suspicion(row: ReleaseRow) -> str | None:
    """A warning of an engine that is surely better than FP32 by more than it may be worse; None of any other."""
    if row.loss_upper is None or row.unit is None or not surely_better(row.loss_upper, row.threshold):
        return None
    return (
        f"suspicious: better than FP32 by at least {-row.loss_upper:.2f} {UNITS[row.unit]}, more than the limit; look "
        "at the metric: is more better?"
    )


def graph_words(row: ReleaseRow) -> str:
    """`FP16 graph`, `FP16 graph (INT8 asked for)`; empty where the policy could not be read."""
    if row.precision is None:
        return ""
    asked = f" ({row.asked} asked for)" if row.asked not in (None, row.precision) else ""
    return f"{row.precision.value} graph{asked}"


def kernel_words(row: ReleaseRow) -> str:
    """What executed, by Attestation.summary: `FP32 kernels`, `9 INT8 (vnni) and 1 FP32 kernels`, `kernels unknown`."""
    if row.executed is None:
        return ""
    kinds = [re.fullmatch(r"(\w+(?: \(\w+\))?) (\d+)", part) for part in row.executed.split(" + ")]
    counts = [(kind[2], kind[1]) for kind in kinds if kind]
    if len(counts) != len(kinds):
        return f"kernels {row.executed}"
    if len(counts) == 1:
        return f"{counts[0][1]} kernels"
    *most, last = [f"{count} {kind}" for count, kind in counts]
    return f"{', '.join(most)} and {last} kernels"


def runs_wider(row: ReleaseRow) -> bool:
    """Whether nothing but FP32 kernels executed in an engine whose own are of another type."""
    own = None if row.precision is None else traits(row.precision).execution
    return own is not Execution.FP32 and kernel_words(row) == f"{Execution.FP32} kernels"


def fusion_words(attestation: Attestation) -> str:
    """`54 graph nodes in 22 kernels`; `54 graph nodes` where no engine ran."""
    nodes, kernels = counted(attestation.nodes, "graph node"), attestation.kernels
    return nodes if kernels is None else f"{nodes} in {counted(kernels, 'kernel')}"


def build_words(row: ReleaseRow) -> str:
    """How long this release worked on the engine: `12.3 s`, `unchanged`; `-` for one that never came to be built."""
    if row.rebuilt:
        return f"{row.seconds:.1f} s"
    return "-" if row.decision is Decision.REFUSED else "unchanged"


def precision_words(row: ReleaseRow) -> str:
    """`FP16 graph, FP32 kernels`; `-` where nothing is known."""
    return ", ".join(filter(None, (graph_words(row), kernel_words(row)))) or "-"


def score_words(evaluation: EvaluationResult | None) -> str | None:
    """`98.90 to 98.72 %`: the reference's score and the engine's; None where none was scored."""
    if evaluation is None:
        return None
    return f"{100 * evaluation.reference_score:.2f} to {100 * evaluation.engine_score:.2f} %"


def size_words(size: int) -> str:
    """`1.25 MB`."""
    return f"{size / 1e6:.2f} MB"

"""How an engine's graph is written, and how that was chosen: every step that was tried, with its figures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from regiolect.contracts.base import Contract, Precision
from regiolect.contracts.calibration import CalibrationMethod, CalibrationTable
from regiolect.contracts.gate import LossUnit


def _none(value: object) -> bool:
    return value is None


class GraphChoice(Contract):
    """All that may vary between the graphs of one region's engine.

    precision: type of the graph, never coarser than the policy's.
    method: how thresholds are chosen; None for a graph that has none.
    wider: operators that are left out of the precision, each named by its first output.
    """

    precision: Precision
    method: CalibrationMethod | None = None
    wider: tuple[str, ...] = ()

    def summary(self) -> str:
        """`INT8, entropy, 3 operators wider`."""
        count = f"{len(self.wider)} operator{'' if len(self.wider) == 1 else 's'} wider" if self.wider else ""
        return ", ".join(filter(None, (self.precision.value, self.method, count)))


class SensitiveOperator(Contract):
    """An operator, named by its first output, and what quantizing it alone does to that output.

    error: power of the difference over power of the output, on true inputs; 0 is none, 1 leaves nothing of it.
    """

    output: str
    kind: str = Field(description="ONNX operator type")
    error: NonNegativeFloat


class RepairStep(Contract):
    """One graph that was built and scored on the selection set. Losses are in `unit`."""

    choice: GraphChoice
    loss: float
    loss_upper: float = Field(
        description="bound that the gate should stay within in four cases of five, going by the selection set"
    )
    accepted: bool = Field(description="whether that bound, and each slice's, is within its limit")
    slice: str | None = Field(default=None, description="one, if any, whose own bound is not within its limit")
    failure: str | None = Field(default=None, description="why it could not be scored; then all is taken for lost")


class Comparison(Contract):
    """The chosen engine against one of the next wider precision, interleaved on the target."""

    precision: Precision = Field(description="of the wider engine")
    speedup: PositiveFloat = Field(description="median over rounds of the wider engine's time / the chosen one's")
    speedup_lower: PositiveFloat | None = Field(
        default=None,
        exclude_if=_none,
        description="lower bound of that median, at the gate's confidence; None: the rounds were too few for one, or "
        "the record is older",
    )
    required: PositiveFloat

    @property
    def earned(self) -> bool:
        """Whether the chosen engine is surely so many times faster as is asked for."""
        return self.speedup_lower is not None and self.speedup_lower >= self.required

    @property
    def told(self) -> str:
        """`1.14x the speed of FP16, surely 1.12x, 1.05x asked for`."""
        surely = "no bound" if self.speedup_lower is None else f"surely {self.speedup_lower:.2f}x"
        return f"{self.speedup:.2f}x the speed of {self.precision}, {surely}, {self.required:g}x asked for"


class RepairJournal(Contract):
    """How a graph was chosen. Only the selection set was looked at."""

    metric: str
    unit: LossUnit
    limit: NonNegativeFloat
    samples: PositiveInt = Field(description="of the selection set")
    operators: PositiveInt | None = Field(default=None, description="operators that INT8 applies to")
    steps: tuple[RepairStep, ...]
    sensitive: tuple[SensitiveOperator, ...] = Field(default=(), description="worst first")
    comparison: Comparison | None = None
    chosen: GraphChoice
    reason: Annotated[str, Field(min_length=1)]
    stopped: str | None = Field(
        default=None,
        exclude_if=_none,
        description="what ended it before its last graph, unaccepted: the policy's time, or that none could do better",
    )

    @property
    def told(self) -> str:
        """The reason, and what ended the repair before its last graph, if anything did."""
        return self.reason if self.stopped is None else f"{self.reason}; {self.stopped}"

    @property
    def kept(self) -> RepairStep | None:
        """The step of the chosen graph."""
        return next((step for step in self.steps if step.choice == self.chosen), None)


class ChosenGraph(Contract):
    """What the engine is built from, and why."""

    format: Literal[1] = 1
    choice: GraphChoice
    table: CalibrationTable | None = Field(default=None, description="its ranges; None for FP32")
    journal: RepairJournal | None = Field(default=None, description="None where there was nothing to choose")
    unrepaired: str | None = Field(
        default=None, exclude_if=_none, description="why no graph could be scored where there was something to choose"
    )

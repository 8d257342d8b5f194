"""Choose how a region's engine is written: climb the ladder on the selection set, then let INT8 earn its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    ChosenGraph,
    Comparison,
    EngineArtifact,
    GraphChoice,
    LossUnit,
    Precision,
    RepairJournal,
    RepairStep,
    SensitiveOperator,
    surely_better,
)
from regiolect.errors import (
    BuildFailed,
    CalibrationError,
    EngineMiscomputes,
    ModelError,
    NonFiniteOutputs,
    NothingWithinLimit,
)
from regiolect.gate.forecast import Forecast
from regiolect.policy import RegionPolicy
from regiolect.precision import traits
from regiolect.repair.ladder import best, rungs

Tables = Callable[[CalibrationMethod], CalibrationTable]
Builder = Callable[[GraphChoice, CalibrationTable | None], EngineArtifact]
Ranker = Callable[[CalibrationTable], tuple[SensitiveOperator, ...]]

_TOLD = 32  # sensitive operators that a journal names
_UNIT = {LossUnit.ABSOLUTE_POINTS: "points", LossUnit.RELATIVE_PERCENT: "%"}


@dataclass
class Workshop:
    """What choosing needs: tables by method, engines by choice, and which operators are sensitive.

    tables: thresholds by a method from histograms that are at hand.
    build: the engine of a choice; the same one for the same choice.
    rank: operators that INT8 applies to, worst first.
    say: told what is being tried, for people who wait.
    minutes: how long choosing has taken so far.
    """

    tables: Tables
    build: Builder
    rank: Ranker
    say: Callable[[str], None]
    minutes: Callable[[], float]
    ranked: tuple[SensitiveOperator, ...] = field(default=(), init=False)

    def table(self, choice: GraphChoice) -> CalibrationTable | None:
        """The table that a choice's graph needs: by its method for INT8, every range for FP16, none for FP32."""
        if traits(choice.precision).observed == "nothing":
            return None
        return self.tables(choice.method or CalibrationMethod.MINMAX)

    def engine(self, choice: GraphChoice) -> EngineArtifact:
        """The engine of a choice."""
        return self.build(choice, self.table(choice))

    def ranking(self, method: CalibrationMethod) -> tuple[str, ...]:
        """Operators by first output, most sensitive first; kept for the journal."""
        self.ranked = self.rank(self.tables(method))
        return tuple(operator.output for operator in self.ranked)


class Scores(Protocol):
    """The selection set: tells what an engine loses there, and how two compare. `Selection` is the real one."""

    @property
    def count(self) -> int:
        """Samples in the set."""

    @property
    def reachable(self) -> Forecast:
        """What an engine that answers as the reference would show there."""

    def step(self, choice: GraphChoice, engine: EngineArtifact) -> RepairStep:
        """What the engine of a choice loses, and what that promises for the gate."""

    def compare(self, engine: EngineArtifact, wider: EngineArtifact) -> Comparison:
        """How much faster an engine is than one of a wider precision."""


def choose(selection: Scores, policy: RegionPolicy, workshop: Workshop) -> ChosenGraph:
    """The first graph on the ladder whose loss the gate would accept, were its set like the selection set.

    Where none is, but one loses no more than the limit on the selection set itself, the one of the least bound goes to
    the gate, which has more samples to tell by. An INT8 graph must then be faster than one of the next wider precision
    that the policy allows, by the policy's margin, or that one takes its place. Where an engine answers otherwise than
    its own graph, and where the policy's time is up, only wider precisions are tried after it. Where not even an engine
    that answers as the reference would be accepted, the first that could be no better goes to the gate.

    Raises:
        EngineMiscomputes: an engine does, and none that was tried beside it could be scored.
        NothingWithinLimit: every graph that the policy allows loses more than the limit; holds the journal.
        EngineError, ModelError, CalibrationError: the stated graph cannot be built, or a graph cannot be run.
        InvalidResults: the metric's scores cannot be used.
    """
    end = _End(policy, selection, workshop.minutes)
    steps, miscomputed = _climbed(selection, policy, workshop, end)
    if miscomputed and all(step.failure is not None for step in steps):
        raise next(iter(miscomputed.values()))
    last = steps[-1]
    kept = last if last.accepted or end.reached else best(steps)
    if not kept.accepted and kept.loss > policy.accuracy.limit:
        error = NothingWithinLimit(
            expected=f"a graph that loses at most {policy.accuracy.limit:g} on the selection set of {policy.region!r}",
            found=f"{len(steps)} tried, the best of them ({kept.choice.summary()}) loses {kept.loss:z.2f}; "
            f"{end.why or 'none is left'}",
            remedy="allow a wider precision in `repair.fallback`, a larger loss in `accuracy.limit` or, where they "
            "were up, more `repair.minutes`: what was built is not built again; or retrain the model with quantization",
        )
        error.journal = _journal(
            selection, policy, steps, workshop, kept.choice, "every graph loses more than the limit", end.why
        )
        raise error
    reason, comparison = _why(kept, steps, policy, miscomputed), None
    choice = kept.choice
    if traits(choice.precision).quantized and policy.wider_precisions():
        choice, comparison, earned = _earned(kept, selection, policy, workshop, steps)
        reason = f"{reason}; {earned}"
    return ChosenGraph(
        choice=choice,
        table=workshop.table(choice),
        journal=_journal(selection, policy, steps, workshop, choice, reason, end.why, comparison),
    )


@dataclass
class _End:
    """What ends a repair before its last graph was tried.

    why: says it, once it has.
    reached: that no graph left could do better than the last one.
    """

    policy: RegionPolicy
    selection: Scores
    minutes: Callable[[], float]
    why: str | None = field(default=None, init=False)
    reached: bool = field(default=False, init=False)

    def time_is_up(self, tried: int) -> bool:
        """Whether the policy's time is over, after so many graphs."""
        minutes = self.policy.repair.minutes
        if minutes is None or self.minutes() < minutes:
            return False
        graphs = "1 graph" if tried == 1 else f"{tried} graphs"
        self.why = f"the time was up (repair.minutes {minutes:g}) after {graphs}: with more of it another may be chosen"
        return True

    def is_reached(self, step: RepairStep) -> bool:
        """Whether no graph left could do better, though this one is not accepted: one that answers as the reference
        would not be either."""
        limit, utmost = self.policy.accuracy.limit, self.selection.reachable
        hopeless = utmost.upper > limit or utmost.slice is not None
        as_good = step.loss_upper <= max(limit, utmost.upper) and step.slice in (None, utmost.slice)
        self.reached = hopeless and as_good
        if self.reached and self.why is None:
            where = f" in {utmost.slice}" if utmost.slice else ""
            self.why = (
                f"no graph can be surely within the limit{where} by {self.selection.count:,} selection samples: "
                "not even one that answers as the reference"
            )
        return self.reached


def _climbed(
    selection: Scores, policy: RegionPolicy, workshop: Workshop, end: _End
) -> tuple[list[RepairStep], dict[Precision, EngineMiscomputes]]:
    """The steps of the ladder until one is accepted or it ends; and the engines that miscompute, by precision."""
    steps: list[RepairStep] = []
    miscomputed: dict[Precision, EngineMiscomputes] = {}
    for choice in rungs(policy, steps, workshop.ranking, miscomputed, lambda: end.time_is_up(len(steps))):
        try:
            step = _tried(choice, selection, policy, workshop)
        except EngineMiscomputes as wrong:
            miscomputed[choice.precision] = wrong
            step = _failed(choice, f"{type(wrong).__name__}: {wrong.found}")
        steps.append(step)
        if step.accepted and len(steps) == 1:
            # Nothing to repair, nothing to tell.
            break
        workshop.say(_said(step, policy))
        if step.accepted or end.is_reached(step):
            break
    if end.why is not None:
        workshop.say(end.why)
    return steps, miscomputed


def _tried(choice: GraphChoice, selection: Scores, policy: RegionPolicy, workshop: Workshop) -> RepairStep:
    """A step of the ladder. What the policy states must be buildable; an attempt beside it may fail, and says so."""
    try:
        return selection.step(choice, workshop.engine(choice))
    except NonFiniteOutputs as error:
        # Nonsense in this graph may be mended by the next one; it is taken for the loss of everything.
        failure = error.found
    except (ModelError, CalibrationError, BuildFailed) as error:
        if choice == policy.stated_choice():
            raise
        failure = f"{type(error).__name__}: {error.found}"
    return _failed(choice, failure)


def _failed(choice: GraphChoice, failure: str) -> RepairStep:
    return RepairStep(choice=choice, loss=100.0, loss_upper=100.0, accepted=False, failure=failure)


def _earned(
    kept: RepairStep, selection: Scores, policy: RegionPolicy, workshop: Workshop, steps: list[RepairStep]
) -> tuple[GraphChoice, Comparison | None, str]:
    """Whether a quantized graph is worth it: the choice that ships, the figures, and a sentence."""
    stated = kept.choice.precision
    for precision in policy.wider_precisions():
        wider = GraphChoice(precision=precision)
        try:
            comparison = selection.compare(workshop.engine(kept.choice), workshop.engine(wider))
        except (ModelError, CalibrationError, BuildFailed, EngineMiscomputes) as error:
            workshop.say(f"{precision} cannot be built beside {stated}: {error.found}")
            continue
        if comparison.earned:
            return kept.choice, comparison, f"{stated} earns its place: {comparison.told}"
        other = next((step for step in steps if step.choice == wider), None)
        if other is None:
            other = _tried(wider, selection, policy, workshop)
            steps.append(other)
        # What is surely good enough is not given up for what may not be.
        if other.accepted or (not kept.accepted and other.loss <= policy.accuracy.limit):
            return wider, comparison, f"{stated} is not worth it ({comparison.told}): {precision} is shipped"
        return kept.choice, comparison, f"{stated} is not worth it ({comparison.told}), but {precision} loses too much"
    return kept.choice, None, f"no wider precision that the policy allows could be built to compare {stated} with"


def _why(
    kept: RepairStep,
    steps: list[RepairStep],
    policy: RegionPolicy,
    miscomputed: Mapping[Precision, EngineMiscomputes],
) -> str:
    first = kept.choice == policy.stated_choice()
    unit = _UNIT[policy.accuracy.unit]
    why = f"{kept.choice.summary()}: loss {kept.loss:z.2f} {unit}, at most {kept.loss_upper:z.2f} expected at the gate"
    if surely_better(kept.loss_upper, policy.accuracy.limit):
        why += "; suspicious: surely better than the reference by more than the limit"
    for precision, error in miscomputed.items():
        why += f"; the {precision} engine answers otherwise than its own graph: {error.found}"
    if kept.accepted:
        lossy = 0 if first else len(steps) - 1 - len(miscomputed)
        return f"{why}{f', after {lossy} that lose too much' if lossy else ''}"
    return f"{why}, limit {policy.accuracy.limit:g}: none of {len(steps)} is surely within it"


def _said(step: RepairStep, policy: RegionPolicy) -> str:
    if step.failure is not None:
        return f"{step.choice.summary()}: {step.failure}"
    verdict = "accepted" if step.accepted else f"not enough in {step.slice}" if step.slice else "not enough"
    return (
        f"{step.choice.summary()}: loss {step.loss:z.2f} {_UNIT[policy.accuracy.unit]} on the selection set, at most "
        f"{step.loss_upper:z.2f} expected, "
        f"limit {policy.accuracy.limit:g}: {verdict}"
    )


def _journal(
    selection: Scores,
    policy: RegionPolicy,
    steps: list[RepairStep],
    workshop: Workshop,
    chosen: GraphChoice,
    reason: str,
    stopped: str | None,
    comparison: Comparison | None = None,
) -> RepairJournal:
    return RepairJournal(
        metric=policy.accuracy.metric,
        unit=policy.accuracy.unit,
        limit=policy.accuracy.limit,
        samples=selection.count,
        operators=len(workshop.ranked) or None,
        steps=tuple(steps),
        sensitive=workshop.ranked[:_TOLD],
        comparison=comparison,
        chosen=chosen,
        reason=reason,
        stopped=stopped,
    )

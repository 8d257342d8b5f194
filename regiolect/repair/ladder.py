"""The order in which graphs are tried until one loses little enough. Pure: from what was tried to what comes next.

    the stated precision, its stated method
    the same by the other methods
    by the best method, the most sensitive operators left out: a sixteenth of them, an eighth, a quarter, a half
    each wider precision that the policy allows, narrowest first

A precision in which an engine miscomputes its graph is left at once: no other thresholds mend the backend. When the
time is up, no further graph of the stated precision is tried.

With fewer steps or less time than that, the wider precisions keep their places, and what comes before them is cut short
from behind: they are what most likely ends a repair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

from regiolect.contracts import CalibrationMethod, GraphChoice, Precision, RepairStep
from regiolect.policy import RegionPolicy
from regiolect.precision import traits

_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
# Entropy is what may lose everything where most values lie next to zero (docs/adr/0010), so it comes last.
_METHODS = (
    CalibrationMethod.MINMAX,
    CalibrationMethod.PERCENTILE,
    CalibrationMethod.MSE,
    CalibrationMethod.ENTROPY,
)

Ranking = Callable[[CalibrationMethod], Sequence[str]]
"""Operators by the method's thresholds, most sensitive first, each by its first output."""


def rungs(
    policy: RegionPolicy,
    steps: Sequence[RepairStep],
    ranking: Ranking,
    miscomputed: Collection[Precision] = (),
    time_is_up: Callable[[], bool] = lambda: False,
) -> Iterator[GraphChoice]:
    """What to try, one after the other.

    Args:
        policy: what is asked for, how many steps there are, and what may be shipped instead.
        steps: what was tried so far; the caller appends to it while it iterates.
        ranking: asked for once, when operators are to be left out.
        miscomputed: precisions in which an engine answered otherwise than its graph; the caller adds to it likewise.
        time_is_up: asked before each further graph of the stated precision.
    """
    wider = [GraphChoice(precision=precision) for precision in policy.wider_precisions()]
    for choice in islice(_stated(policy, steps, ranking, time_is_up), max(policy.repair.steps - len(wider), 1)):
        yield choice
        if choice.precision in miscomputed:
            break
    yield from wider[: max(policy.repair.steps - len(steps), 0)]


def _stated(
    policy: RegionPolicy, steps: Sequence[RepairStep], ranking: Ranking, time_is_up: Callable[[], bool]
) -> Iterator[GraphChoice]:
    first = policy.stated_choice()
    yield first
    if not traits(first.precision).quantized:
        return
    for method in (each for each in _METHODS if each is not first.method):
        if time_is_up():
            return
        yield GraphChoice(precision=first.precision, method=method)
    if time_is_up():
        return
    method = best(steps).choice.method or policy.calibration.method
    operators = ranking(method)
    tried: set[int] = {0}
    for share in _SHARES:
        count = math.ceil(share * len(operators))
        if count not in tried and count < len(operators):
            if time_is_up():
                return
            tried.add(count)
            yield GraphChoice(precision=first.precision, method=method, wider=tuple(operators[:count]))


def best(steps: Sequence[RepairStep]) -> RepairStep:
    """The step of the least bound; of equal ones the first, which took the least."""
    return min(steps, key=lambda step: (step.loss_upper, step.loss))

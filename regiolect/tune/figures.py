"""What a journal comes to. Pure: equal journals give equal answers, on any machine.

Every time is taken relative to the default's in the same pass, so that a machine that becomes slower or faster in
between moves all candidates alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regiolect.contracts import Blob, OperatingPoint, Performance, TunedEngine, TuningJournal
from regiolect.errors import TuningError
from regiolect.evaluate.timing import percentile_upper

DEFAULT, CONTROL = 0, 1
# With fewer passes nothing is known of the noise, and nothing may be chosen.
LEAST_PASSES = 5
_CONFIDENCE = 0.95
# Before the noise is known, only what is slower by so much is given up.
_FAR, _NEAR = 0.3, 0.1
MOST_POINTS = 6


@dataclass(frozen=True)
class Figures:
    """One candidate as measured: its place in the journal, the passes it took part in, and a round of it."""

    place: int
    passes: int
    point: OperatingPoint

    @property
    def p50(self) -> float:
        return self.point.p50_ms

    @property
    def throughput(self) -> float:
        return self.point.throughput


def measured(journal: TuningJournal) -> dict[int, Figures]:
    """Figures of every candidate that was measured and not dropped, by its place; the control is one of them.

    p50 is the default's median times the median over passes of the candidate's median by the default's in that pass.
    """
    rounds = _rounds(journal)
    reference = {number: float(np.median(taken)) for number, taken in rounds.get(DEFAULT, {}).items()}
    if not reference:
        return {}
    whole = float(np.median(np.concatenate([np.asarray(taken) for taken in rounds[DEFAULT].values()])))
    gone = _gone(journal)
    return {
        place: _figures(journal, place, taken, reference, whole)
        for place, taken in sorted(rounds.items())
        if place not in gone
    }


def noise(journal: TuningJournal) -> float | None:
    """By how much the default differed from itself: upper bound, at 95 %, of the median share over passes.

    None with fewer than LEAST_PASSES passes.
    """
    rounds = _rounds(journal)
    pairs = [
        (np.median(taken), np.median(rounds[CONTROL][number])) for number, taken in rounds.get(DEFAULT, {}).items()
    ]
    if len(pairs) < LEAST_PASSES:
        return None
    return percentile_upper([abs(float(control / default) - 1) for default, control in pairs], 0.5, _CONFIDENCE)


def standing(journal: TuningJournal) -> tuple[int, ...]:
    """Places of the candidates that the next pass has to measure: those that may still be chosen, and the default and
    its control.

    A candidate is out once another is faster and gives more, one of the two by more than the noise. At the default's
    batch, where latency is tuned for, only another one at that batch counts.
    """
    found, floor = measured(journal), noise(journal)
    gone = _gone(journal)
    unseen = [place for place in range(len(journal.candidates)) if place not in found and place not in gone]
    # What a first short look says of throughput is not believed to the last share either.
    margin, slack = (_FAR, _NEAR) if floor is None else (floor, 0.0)
    rivals = [each for each in found.values() if each.place != CONTROL]
    kept = [each.place for each in rivals if _may_be_chosen(each, rivals, margin, slack, journal)]
    return tuple(sorted({DEFAULT, CONTROL, *unseen, *kept}))


def _may_be_chosen(
    one: Figures, rivals: Iterable[Figures], margin: float, slack: float, journal: TuningJournal
) -> bool:
    others = [other for other in rivals if other.place != one.place]
    if not any(_beats(other, one, margin, slack) for other in others):
        return True
    if journal.tuned_for is not Performance.LATENCY or one.point.batch != journal.default_batch:
        return False
    return not any(other.point.batch == one.point.batch and other.p50 * (1 + margin) < one.p50 for other in others)


def _beats(one: Figures, other: Figures, margin: float, slack: float) -> bool:
    faster, gives_more = other.p50 / one.p50 - 1, one.throughput / other.throughput - 1
    return faster >= slack and gives_more >= slack and max(faster, gives_more) > margin


def operating_points(journal: TuningJournal) -> tuple[OperatingPoint, ...]:
    """The front: from the fastest round on, each point gives more than the one before by more than the noise.

    Where several are equally fast within the noise, the one that gives most is taken; where they also give the same
    within it, the one nearest to the default. Of more than MOST_POINTS, first and last are kept, and those between that
    lie most evenly.
    """
    floor = noise(journal) or 0.0
    left = _final(journal)
    front: list[Figures] = []
    while left:
        fast = min(each.p50 for each in left) * (1 + floor)
        alike = [each for each in left if each.p50 <= fast]
        most = max(each.throughput for each in alike)
        pick = min((each for each in alike if each.throughput * (1 + floor) >= most), key=_from_default(journal))
        front.append(pick)
        left = [each for each in left if each.p50 > pick.p50 and each.throughput > pick.throughput * (1 + floor)]
    return tuple(each.point for each in _spread(front))


def choose(journal: TuningJournal) -> OperatingPoint | None:
    """The candidate that best answers what is tuned for; None: none is better than the default by more than the noise.

    Latency: the fastest at the default's batch. Throughput: what gives most, at any batch. Of several that are equal
    within the noise the one nearest to the default.
    """
    floor, found = noise(journal), _final(journal)
    if floor is None:
        return None
    default = next(each for each in found if each.place == DEFAULT)
    if journal.tuned_for is Performance.LATENCY:
        found = [each for each in found if each.point.batch == default.point.batch]
        gain = {each.place: default.p50 / each.p50 for each in found}
    else:
        gain = {each.place: each.throughput / default.throughput for each in found}
    best = max(gain.values())
    if best <= 1 + floor:
        return None
    alike = [each for each in found if gain[each.place] * (1 + floor) >= best and gain[each.place] > 1 + floor]
    return min(alike, key=_from_default(journal)).point


def tuned_engine(journal: TuningJournal, kept: Blob) -> TunedEngine:
    """What a journal comes to.

    Args:
        kept: the journal's content in a store.

    Raises:
        TuningError: too little was measured for anything to be said.
    """
    floor = noise(journal)
    if floor is None:
        raise TuningError(
            expected=f"at least {LEAST_PASSES} passes over all candidates",
            found=f"{len(journal.passes)} in {journal.seconds:.0f} s",
            remedy="allow more minutes: the journal is kept, and measuring goes on from there",
        )
    return TunedEngine(
        build_key=journal.build_key,
        device=journal.device,
        default=measured(journal)[DEFAULT].point,
        points=operating_points(journal),
        chosen=choose(journal),
        noise=floor,
        journal=kept,
    )


def _final(journal: TuningJournal) -> list[Figures]:
    """Candidates that were measured often enough to be chosen; the control is none."""
    return [each for each in measured(journal).values() if each.passes >= LEAST_PASSES and each.place != CONTROL]


def _from_default(journal: TuningJournal) -> _Distance:
    return _Distance(journal.default_batch)


@dataclass(frozen=True)
class _Distance:
    """Orders candidates by how far they are from the default: settings first, then the batch."""

    batch: int

    def __call__(self, one: Figures) -> tuple[int, float, int]:
        away = abs(math.log2(one.point.batch / self.batch))
        return len(one.point.configuration), away, one.place


def _spread(front: Sequence[Figures]) -> list[Figures]:
    kept = list(front)
    while len(kept) > MOST_POINTS:
        # The point goes whose neighbours are nearest to each other.
        gaps = [kept[at + 1].throughput / kept[at - 1].throughput for at in range(1, len(kept) - 1)]
        del kept[1 + gaps.index(min(gaps))]
    return kept


def _rounds(journal: TuningJournal) -> dict[int, dict[int, tuple[float, ...]]]:
    """Rounds by candidate and pass."""
    found: dict[int, dict[int, tuple[float, ...]]] = {}
    for number, taken in enumerate(journal.passes):
        for piece in taken:
            found.setdefault(piece.candidate, {})[number] = piece.rounds_ms
    return found


def _gone(journal: TuningJournal) -> set[int]:
    return {
        place
        for place, candidate in enumerate(journal.candidates)
        if place not in (DEFAULT, CONTROL)
        and any(
            dropped.configuration == candidate.configuration and dropped.batch in (None, candidate.batch)
            for dropped in journal.dropped
        )
    }


def _figures(
    journal: TuningJournal,
    place: int,
    taken: Mapping[int, Sequence[float]],
    reference: Mapping[int, float],
    whole: float,
) -> Figures:
    candidate = journal.candidates[place]
    if place == DEFAULT:
        p50 = whole
    else:
        p50 = whole * float(np.median([np.median(rounds) / reference[number] for number, rounds in taken.items()]))
    slowest = float(np.percentile(np.concatenate([np.asarray(rounds) for rounds in taken.values()]), 99))
    point = OperatingPoint(
        batch=candidate.batch,
        configuration=candidate.configuration,
        at_once=candidate.at_once,
        p50_ms=p50,
        p99_ms=max(p50, slowest),
        throughput=candidate.batch * candidate.at_once / p50 * 1e3,
    )
    return Figures(place=place, passes=len(taken), point=point)

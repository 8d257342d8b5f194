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
# So many of all slices, and such a share of them, are looked at for who is slow at worst.
_FEW_SLOWEST, _SLOWEST = 3, 0.1
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


def noise(journal: TuningJournal, among: int = 1) -> float | None:
    """By how much the default differed from itself: bound, at 95 % on either side, of the median over passes of the
    control's time by the default's, less one. It becomes smaller with the number of passes, as errors of medians do.

    None with fewer than LEAST_PASSES passes.

    Args:
        among: of so many candidates that are as fast as the default the luckiest stays within it, at 95 % again: the
            bound is taken at a confidence from which the share of each is left out (Bonferroni). With passes too few
            for that (10 of them for 40 candidates) it is the largest difference of a pass, and less sure.
    """
    confidence = 1 - (1 - _CONFIDENCE) / among
    rounds = _rounds(journal)
    ratios = np.asarray(
        [np.median(rounds[CONTROL][number]) / np.median(taken) for number, taken in rounds.get(DEFAULT, {}).items()]
    )
    if len(ratios) < LEAST_PASSES:
        return None
    bounds = (percentile_upper(signed, 0.5, confidence) for signed in (ratios, -ratios))
    above, below = (
        float(np.max(signed)) if bound is None else bound
        for bound, signed in zip(bounds, (ratios, -ratios), strict=True)
    )
    return max(abs(above - 1), abs(-below - 1))


def standing(journal: TuningJournal) -> tuple[int, ...]:
    """Places of the candidates that the next pass has to measure: those that may still be chosen, and the default and
    its control.

    A candidate is out once another is faster and gives more, one of the two by more than the noise. At the default's
    batch, where the choice is made there, only another one at that batch counts, and only one that may be chosen; one
    that is out by an answer that later turns out to be none is in again.
    """
    figures, floor = measured(journal), noise(journal)
    gone = _gone(journal)
    unseen = [place for place in range(len(journal.candidates)) if place not in figures and place not in gone]
    # What a first short look says of throughput is not believed to the last share either.
    margin, slack = (_FAR, _NEAR) if floor is None else (floor, 0.0)
    rivals = [each for each in figures.values() if each.place != CONTROL]
    at_batch = _choosable(rivals, journal, floor) if _at_default_batch(journal) else []
    kept = [
        each.place
        for each in rivals
        if not any(_beats(other, each, margin, slack) for other in rivals)
        or (
            each in at_batch
            and not any(_worth(other, journal) > _worth(each, journal) * (1 + margin) for other in at_batch)
        )
    ]
    return tuple(sorted({DEFAULT, CONTROL, *unseen, *kept}))


def _at_default_batch(journal: TuningJournal) -> bool:
    return journal.at_default_batch or journal.tuned_for is Performance.LATENCY


def _choosable(candidates: Iterable[Figures], journal: TuningJournal, floor: float | None) -> list[Figures]:
    """Those among which the choice is: at the default's batch where it is made there, and for latency without those
    that are slower than the default at worst."""
    return [
        each
        for each in candidates
        if (each.point.batch == journal.default_batch or not _at_default_batch(journal))
        and not (
            journal.tuned_for is Performance.LATENCY
            and floor is not None
            and _slower_at_worst(each.place, journal, floor)
        )
    ]


def _worth(one: Figures, journal: TuningJournal) -> float:
    return 1 / one.p50 if journal.tuned_for is Performance.LATENCY else one.throughput


def _slower_at_worst(place: int, journal: TuningJournal, floor: float) -> bool:
    """Whether a candidate's slowest rounds are slower than the default's by more than `floor`, surely.

    A journal has too few rounds to compare 99th percentiles: of 25 rounds it is the slowest one, whose size is chance,
    and one stall of the machine makes many rounds of one slice slow. So slices are counted: the slowest round of each,
    of equally many in a pass and relative to the default's median there. Were the candidate's no slower than those of
    the default and of its control, a third of the slowest slices would be the candidate's. It is slower if among the
    slowest three, or the slowest tenth, more are its own than chance gives 5 % of the time (hypergeometric; exact for
    any distribution and number of passes). So a candidate without such a tail is refused in less than one of ten
    tunings, and what is not shown by that is left to the gate, which bounds the 99th percentile itself.
    """
    from scipy import stats

    if place == DEFAULT:
        return False
    rounds = _rounds(journal)
    slowest: list[tuple[float, bool]] = []
    for number, taken in rounds[place].items():
        usual = float(np.median(rounds[DEFAULT][number]))
        pieces = rounds[DEFAULT][number], rounds[CONTROL][number], taken
        fewest = min(map(len, pieces))
        first, second, own = (max(piece[:fewest]) / usual for piece in pieces)
        slowest += [(first, False), (second, False), (own / (1 + floor), True)]
    # At equal times the default's come first, which speaks for the candidate.
    is_own = [each[1] for each in sorted(slowest, key=lambda each: (-each[0], each[1]))]
    return any(
        stats.hypergeom.sf(sum(is_own[:worst]) - 1, len(is_own), len(is_own) // 3, worst) < 1 - _CONFIDENCE
        for worst in {_FEW_SLOWEST, max(_FEW_SLOWEST, math.ceil(_SLOWEST * len(is_own)))}
    )


def _beats(one: Figures, other: Figures, margin: float, slack: float) -> bool:
    if one.place == other.place:
        return False
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
    """The candidate that best answers what is tuned for; None: none is better than the default by more than the noise,
    taken as a bound for all that are compared with it.

    Latency: the fastest median at the default's batch, of those that are not slower at worst. Throughput: what gives
    most, at any batch or at the default's, as the journal says. Of several that are equal within the noise the one
    nearest to the default.
    """
    floor = noise(journal)
    if floor is None:
        return None
    choosable = _choosable(_final(journal), journal, floor)
    default = next(each for each in choosable if each.place == DEFAULT)
    gain = {each.place: _worth(each, journal) / _worth(default, journal) for each in choosable}
    least = 1 + (noise(journal, among=max(1, len(choosable) - 1)) or 0.0)
    best = max(gain.values())
    if best <= least:
        return None
    alike = [each for each in choosable if gain[each.place] * (1 + floor) >= best and gain[each.place] > least]
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
    rounds: dict[int, dict[int, tuple[float, ...]]] = {}
    for number, taken in enumerate(journal.passes):
        for piece in taken:
            rounds.setdefault(piece.candidate, {})[number] = piece.rounds_ms
    return rounds


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

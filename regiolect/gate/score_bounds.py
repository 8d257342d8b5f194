"""One-sided bounds of a paired loss of scores in [0, 1], whatever their distribution.

Samples are independent pairs of scores, R of the reference and E of the engine. The loss u is that of

    E[R - E] = u           in points:  y = u     - (R - E)
    E[R - E] = u E[R]      relative:   y = u R   - (R - E)

so y has mean 0 at the true loss u, and at most 0 for any smaller u. Whoever holds that the loss is at least u must
offer bets on y at even odds. Start with 1 and put a share of what there is on each sample in turn: the wealth is a
product of factors 1 + bet y, none negative as long as bet <= 1 / (1 - u), for y >= -(1 - u). If the loss is u or more,
the wealth does not grow on average, and reaches 1 / alpha with a probability of at most alpha (Ville). The upper bound
is the smallest u at which it does. The lower bound bets on -y. Nothing is asymptotic, nothing is assumed of the scores.

The bets aim at the target. Before each block of samples, with w the logarithm of the wealth, m samples left and v the
variance of R - E in the samples so far,

    bet = min( sqrt(2 (log(1 / alpha) - w) / (m v)),  0.99 / (1 - u) )

and betting ends where the target is reached. Bets look at earlier samples only, and so does the choice of blocks.

The smallest u can be searched for by bisection, because the wealth at the end never falls in u. In a block, a larger u
makes every factor larger, for the same w. And a larger w leads to a larger w' behind the block: where the bet is the
cap, w' - w is the same. Where it is not, let g = w' - w and L = log(1 / alpha) - w: the derivative of w' is 1 less the
sum of bet y / (1 + bet y) over 2 L, which is at least 1 - g / (2 L) as x / (1 + x) <= log(1 + x), so above 1 / 2 where
the target is not reached.

Bets need an order, and the bound must not: samples are ordered by the sha256 of their ids, which knows nothing of the
scores.

Sources: V. Voracek and F. Orabona, "STaR-Bets" (2025), arXiv:2505.22422 (bets that aim anew); I. Waudby-Smith and
A. Ramdas, JRSS B 86 (2024) 1 (bounds by betting). Options refused: docs/adr/0011-gate-bound-of-scores.md.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import LossUnit
from regiolect.errors import InvalidResults, InvalidSetting
from regiolect.gate.bounds import SLACK

Floats = NDArray[np.float64]

_BOLDEST = 0.99  # of the bet that a single sample could lose everything by
_PRIOR = (0.25, 4.0)  # a variance, and the number of samples that it is worth
_BLOCKS = 32  # about: each but the first ones is a 32nd of the samples
_FIRST, _GROWTH = 8, 1.3  # samples of the first block, and how much more the next ones have
_MOST_ROOT = 1e9  # root of the number of samples that stands for any larger one
_FURTHEST = -1e9  # a relative loss below this is not told apart


def by_digest(sample_ids: Sequence[str]) -> NDArray[np.int_]:
    """Positions of samples in the order in which bets are made on them: by the sha256 of their ids."""
    digests = [hashlib.sha256(sample.encode()).digest() for sample in sample_ids]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int_)


def score_loss_upper(
    reference: Floats, engine: Floats, unit: LossUnit, confidence: float, *, slack: float = SLACK
) -> float:
    """Upper bound of the loss, a fraction; never below the loss seen, nor above 1.

    Args:
        reference: scores in [0, 1] in the order of bets, shape (n,).
        engine: the same for the engine.
        unit: whether the loss is related to the reference's score.
        confidence: of the bound, above 0.5 and below 1.
        slack: how far the bound may lie beyond the least one, a share of its distance from the loss seen; more of it
            takes less time.

    Raises:
        InvalidResults: a score is outside [0, 1], or the reference scores nothing and the loss is relative.
        InvalidSetting: the confidence is outside its range.
    """
    game = Game.of(reference, engine, unit, confidence)
    return game.bound(game.seen, 1.0, game.within, slack)


def score_loss_lower(reference: Floats, engine: Floats, unit: LossUnit, confidence: float) -> float:
    """Lower bound of the loss, a fraction; never above the loss seen. Arguments and errors as of `score_loss_upper`.

    Of a relative loss -1e9 at least: a reference that scores next to nothing has no lower bound worth telling.
    """
    game = Game.of(reference, engine, unit, confidence)
    if unit is LossUnit.RELATIVE_PERCENT:
        # Whatever the loss, R - E - u R is at least -1 for u <= 1.
        return -game.bound(-game.seen, -_FURTHEST, lambda u: game.reaches(game.lost + u * game.scale, 1.0))
    return -game.bound(-game.seen, 1.0, lambda u: game.reaches(game.lost + u, 1.0 / (1.0 - u)))


def width_elsewhere(width: float, n: int, samples: int, confidence: float) -> float:
    """About how far the upper bound would lie above the loss on another number of samples like these.

    A part of the width falls with the samples, as it does when nothing differs; the rest with their square root.
    """
    least = min(_least_width(confidence) / n, width)
    return _least_width(confidence) / samples + (width - least) * math.sqrt(n / samples)


def samples_for(width: float, n: int, wanted: float, confidence: float) -> int:
    """About how many samples like these have a width of at most `wanted`, which is above 0; as `width_elsewhere`."""
    least = min(_least_width(confidence) / n, width)
    root = (width - least) * math.sqrt(n)
    root_needed = (root + math.sqrt(root**2 + 4 * wanted * _least_width(confidence))) / (2 * wanted)
    return math.ceil(min(root_needed, _MOST_ROOT) ** 2)


def _least_width(confidence: float) -> float:
    """n times the bound of an engine that never differs, without what the first cautious bets cost."""
    return -math.log(1.0 - confidence) / _BOLDEST


@dataclass(frozen=True, eq=False)
class Game:
    """What is bet on: R - E, what a loss is measured by, and how much there is to reach."""

    lost: Floats
    scale: Floats
    target: float
    ends: NDArray[np.int_]
    variance: Floats  # before each block, of the samples before it

    @classmethod
    def of(cls, reference: Floats, engine: Floats, unit: LossUnit, confidence: float) -> Game:
        """The game of these scores. Arguments and errors as of `score_loss_upper`."""
        _check(reference, engine, unit, confidence)
        lost = reference - engine
        ends = _ends(len(lost))
        sums, squares = (np.concatenate([[0.0], np.cumsum(each)])[ends[:-1]] for each in (lost, lost**2))
        prior, worth = _PRIOR
        mean = sums / (ends[:-1] + worth)
        variance = (prior * worth + squares - 2 * mean * sums + ends[:-1] * mean**2) / (ends[:-1] + worth)
        scale = reference if unit is LossUnit.RELATIVE_PERCENT else np.ones_like(lost)
        return cls(lost, scale, -math.log(1.0 - confidence), ends, variance)

    @property
    def seen(self) -> float:
        """The loss as seen, a fraction."""
        return float(self.lost.sum() / self.scale.sum())

    def within(self, loss: float) -> bool:
        """Whether bets against a loss of `loss`, below 1, or more reach what the confidence asks for."""
        return self.reaches(loss * self.scale - self.lost, 1.0 / (1.0 - loss))

    def reaches(self, payoff: Floats, most: float) -> bool:
        """Whether bets of at most `most` on these payoffs multiply the wealth by what the confidence asks for."""
        wealth, n = 0.0, len(payoff)
        for start, stop, variance in zip(self.ends[:-1], self.ends[1:], self.variance, strict=True):
            bet = min(math.sqrt(2 * (self.target - wealth) / ((n - start) * variance)), _BOLDEST * most)
            wealth += float(np.log1p(bet * payoff[start:stop]).sum())
            if wealth >= self.target:
                return True
        return False

    def bound(self, least: float, most: float, reaches: Callable[[float], bool], slack: float = SLACK) -> float:
        """The smallest loss from `least` on that `reaches`, `most` if none below does; a little more with `slack`."""
        if least >= most or reaches(least):
            return min(least, most)
        n = len(self.lost)
        step = self.target / n + math.sqrt(self.target * float(self.variance[-1]) / n)
        low, high = least, least + step
        while high < most and not reaches(high):
            step *= 2
            low, high = high, high + step
        if high >= most:
            high = most
        while high - low > slack * (high - least):
            middle = (low + high) / 2
            if not low < middle < high:
                # Neighbours: no number lies between them.
                break
            low, high = (low, middle) if reaches(middle) else (middle, high)
        return high


@functools.lru_cache(maxsize=256)
def _ends(n: int) -> NDArray[np.int_]:
    """Where blocks end, from 0 to n: small ones first, while the variance is not known yet."""
    ends, size = [0], float(_FIRST)
    while ends[-1] < n:
        ends.append(min(n, ends[-1] + max(1, int(min(size, n / _BLOCKS)))))
        size *= _GROWTH
    return np.array(ends, dtype=np.int_)


def _check(reference: Floats, engine: Floats, unit: LossUnit, confidence: float) -> None:
    for scores in (reference, engine):
        # NaN compares as false.
        if not ((scores >= 0.0) & (scores <= 1.0)).all() or len(scores) != len(reference) or len(scores) == 0:
            raise InvalidResults(
                expected="as many scores of the engine as of the reference, at least one, each in [0, 1]",
                found=f"{len(scores)} from {np.min(scores, initial=np.inf)} to {np.max(scores, initial=-np.inf)}",
                remedy="let the metric return one score in [0, 1] per sample",
            )
    if unit is LossUnit.RELATIVE_PERCENT and not reference.any():
        raise InvalidResults(
            expected="a reference that scores more than 0, to relate a loss to",
            found="0 on every sample",
            remedy="check the reference model and the labels, or state the limit in absolute_points",
        )
    if not 0.5 < confidence < 1.0:
        raise InvalidSetting(
            expected="a confidence above 0.5 and below 1", found=f"{confidence}", remedy="state 0.95 for 95 %"
        )

"""Exact one-sided bounds of a paired loss, whatever the rate of disagreement.

n samples are judged right or wrong under the reference and under the engine. b counts reference right & engine wrong,
c reference wrong & engine right; (b, c, n - b - c) is trinomial with rates p10, p01 and the rest. The loss is
p10 - p01, a fraction in [-1, 1]; how often the two disagree, p10 + p01, is a nuisance that no one knows.

The bound is Buehler's. Order all tables by a statistic that grows with b and falls with c,

    T(b, c) = b - c + z sqrt(b + c + z^2 / 4)        z: normal quantile of the confidence

and take the largest loss under which a table as good as the observed one, or better, is not yet too rare:

    U = sup { d : sup P(T <= T_observed; p10 - p01 = d) > alpha - beta }

The inner supremum runs over p10 <= CPU(b) and p01 >= CPL(c), two Clopper-Pearson limits of error beta / 2 each (after
Berger and Boos); beta is alpha / 5000. With m = b + c, T <= t says b <= k(m), and k steps by 0 or 1 with m: so a table
in the set stays there when b falls or c rises. Hence its probability falls in p10 and rises in p01, the supremum falls
in d, and U rises with b and falls with c.

The supremum is certified, not sampled. The line of rates with p10 - p01 = d is cut into cells. Along it each rate is
linear, so |P''| <= sqrt(2 P) I with I the Fisher information of n samples (P'' is the covariance of the set with
sum over i != j of score_i score_j; Cauchy and Schwarz). So a cell of width w holds P to at most its larger end plus
sqrt(2 P) I w^2 / 8; the outermost cells, where I may be infinite, also to P at their least p10 and greatest p01.

Sources: R. Buehler, JASA 52 (1957) 482; R. Berger and D. Boos, JASA 89 (1994) 1012; C. Lloyd and M. Moldovan,
Statistics in Medicine 26 (2007) 3369 (Buehler bounds of this loss, by other statistics). Options refused:
docs/adr/0003-gate-bound.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from regiolect.errors import InvalidResults, InvalidSetting

Floats = NDArray[np.float64]

_BETA_SHARE = 2e-4  # of alpha, spent on restricting the nuisance
_REFERENCE_SHARE = 0.02  # of alpha, spent on the reference's own score in a relative loss
_TAIL = math.log(1e10)  # values of m left out of a sum have a probability of at most exp(-_TAIL) on either side
_SLACK = 1e-8  # more than the tails left out and rounding together
_TINY = 1e-300  # stands for a rate of zero inside logarithms
_CELLS = 48  # of the nuisance line, before refinement
_COUNTABLE = 10**9  # samples up to which a number of them is tried out; sums lose their digits far beyond
_MOST = 1e18  # stands for any larger number of samples
SLACK = 5e-5  # standard errors that the loss is put beyond its root at first
_CELLS_OF_SEARCH = 16  # where only about the supremum is asked for
_ROUNDS = 14  # of refinement at most, and
_WORK = 2_000_000  # ends of cells times values of m at most; stopping early only raises the bound


def clopper_pearson(successes: float, n: int, alpha: float) -> tuple[float, float]:
    """Lower and upper limit of a binomial rate, each with error alpha.

    Source: C. Clopper and E. Pearson, Biometrika 26 (1934) 404.
    """
    lower = float(special.betaincinv(successes, n - successes + 1, alpha)) if successes > 0 else 0.0
    upper = float(special.betainccinv(successes + 1, n - successes, alpha)) if successes < n else 1.0
    return lower, upper


def loss_bounds(b: int, c: int, n: int, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of the loss p10 - p01, a fraction, each one-sided at `confidence`.

    Args:
        b: samples that the reference has right and the engine wrong.
        c: samples that the reference has wrong and the engine right.
        n: all samples.
        confidence: of each bound by itself, above 0.5 and below 1.

    Raises:
        InvalidResults: b, c and n are no counts of one table.
        InvalidSetting: the confidence is outside its range.
    """
    return -loss_upper_bound(c, b, n, confidence), loss_upper_bound(b, c, n, confidence)


def relative_loss_bounds(b: int, c: int, right: int, n: int, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of (p10 - p01) / a, a fraction of the reference's score a, which is as random as the loss.

    By Bonferroni: the loss is bounded with 98 % of alpha, and a by Clopper-Pearson from either side with 1 % each. A
    loss is divided by the end that makes the bound wider: the upper bound, if positive, by the lower end of a.

    Args:
        b, c, n, confidence: as of `loss_bounds`.
        right: samples that the reference has right.

    Raises:
        InvalidResults: as above, or the reference is never right.
    """
    return (
        relative_loss_lower_bound(b, c, right, n, confidence),
        relative_loss_upper_bound(b, c, right, n, confidence),
    )


def relative_loss_upper_bound(b: int, c: int, right: int, n: int, confidence: float, *, slack: float = SLACK) -> float:
    """The upper one of `relative_loss_bounds`; `slack` as of `loss_upper_bound`."""
    loss_confidence, least, most = _related(b, c, right, n, confidence)
    upper = loss_upper_bound(b, c, n, loss_confidence, slack=slack)
    return upper / (least if upper >= 0 else most)


def relative_loss_lower_bound(b: int, c: int, right: int, n: int, confidence: float) -> float:
    """The lower one of `relative_loss_bounds`."""
    loss_confidence, least, most = _related(b, c, right, n, confidence)
    lower = -loss_upper_bound(c, b, n, loss_confidence)
    return lower / (most if lower >= 0 else least)


def _related(b: int, c: int, right: int, n: int, confidence: float) -> tuple[float, float, float]:
    """The confidence that is left for the loss, and bounds of the reference's score."""
    if not b <= right <= n - c or right == 0:
        raise InvalidResults(
            expected=f"between {max(b, 1)} and {n - c} right answers of the reference, to relate a loss to",
            found=f"{right}",
            remedy="check the reference model and the labels, or state the limit in absolute_points",
        )
    alpha = 1.0 - confidence
    least, most = clopper_pearson(right, n, _REFERENCE_SHARE / 2 * alpha)
    return 1.0 - (1.0 - _REFERENCE_SHARE) * alpha, least, most


def loss_upper_bound(b: int, c: int, n: int, confidence: float, *, slack: float = SLACK) -> float:
    """Upper bound of the loss p10 - p01; arguments and errors as of `loss_bounds`.

    About 3 / n with no disagreement at 95 % (the rule of three).

    Args:
        slack: how far the bound may lie beyond the least one, in standard errors; more of it takes less time.
    """
    _check(b, c, n, confidence)
    alpha = 1.0 - confidence
    beta = _BETA_SHARE * alpha
    level = alpha - beta
    ordering = _Ordering.of(b, c, n, confidence)
    nuisance = _Nuisance(clopper_pearson(b, n, beta / 2)[1], clopper_pearson(c, n, beta / 2)[0])
    # Beyond `highest` no pair of rates is left.
    highest = nuisance.p10_most - nuisance.p01_least

    def excess(probability: float) -> float:
        # In normal quantiles a probability is nearly a straight line in the loss.
        return float(special.ndtri(min(max(probability, 1e-12), 1 - 1e-12)) - special.ndtri(level))

    z = ordering.z
    loss, step = _near_root(
        lambda at: excess(_attained(ordering, nuisance, at)),
        low=(b - c) / n,
        high=highest,
        start=(b - c + z * z / 2 + z * math.sqrt(b + c + z * z / 4)) / n,
        step=math.sqrt(b + c + z * z) / n,
        close=max(slack / 4, 2e-4),
    )
    margin = max(slack, _tolerance(ordering, nuisance, loss) / 2)
    if margin > SLACK:
        loss += step * margin
    while loss < highest:
        over = excess(_certified(ordering, nuisance, loss, level))
        if over <= 0:
            return loss
        # The farther beyond the root, the fewer cells prove it.
        loss += step * max(1.2 * over, margin) + 1e-12
        margin *= 10
    return highest


def minimum_samples(limit: float, confidence: float) -> int:
    """The fewest samples with which an engine that never disagrees has a loss proven to be at most `limit`; of more
    than a thousand million about that many.

    Args:
        limit: a fraction above 0.
        confidence: above 0.5 and below 1.
    """
    alpha = 1.0 - confidence
    if limit >= 1.0:
        return 1
    n = _ceil(math.log((1.0 - _BETA_SHARE) * alpha) / math.log1p(-limit))
    while n <= _COUNTABLE and loss_upper_bound(0, 0, n, confidence) > limit:
        n += max(1, n // 10_000)
    return n


def samples_needed(b: int, c: int, n: int, limit: float, confidence: float) -> int | None:
    """About how many samples would prove the loss to be at most `limit`, if they disagreed as often as these did.

    None if no number would: the loss seen is not below the limit. More than n in any case. It solves
    T(b, c) + z^2 / 2 = limit n, an approximation of U = limit, for n.
    """
    disagreement, margin = (b + c) / n, limit - (b - c) / n
    if margin <= 0:
        return None
    z = float(special.ndtri(confidence))
    about = _ceil(z * z * (disagreement + margin) / margin / margin)
    return max(about, n + 1, minimum_samples(limit, confidence) if b + c == 0 else 1)


def _ceil(samples: float) -> int:
    return math.ceil(min(samples, _MOST))


def _check(b: int, c: int, n: int, confidence: float) -> None:
    if not (b >= 0 and c >= 0 and n >= 1 and b + c <= n):
        raise InvalidResults(
            expected="counts b, c >= 0 with b + c <= n and n >= 1",
            found=f"b = {b}, c = {c}, n = {n}",
            remedy="count them anew from the per-sample results",
        )
    if not 0.5 < confidence < 1.0:
        raise InvalidSetting(
            expected="a confidence above 0.5 and below 1", found=f"{confidence}", remedy="state 0.95 for 95 %"
        )


@dataclass(frozen=True)
class _Ordering:
    """The tables at least as good as the observed one: for each m the largest b among them."""

    n: int
    z: float
    threshold: float

    @classmethod
    def of(cls, b: int, c: int, n: int, confidence: float) -> _Ordering:
        z = float(special.ndtri(confidence))
        return cls(n=n, z=z, threshold=b - c + z * math.sqrt(b + c + z * z / 4))

    def largest_b(self, m: Floats) -> Floats:
        """k(m), -1 where no b is in the set."""
        # The added 1e-9 keeps the observed table inside in spite of rounding; more tables only raise the bound.
        k = np.floor((self.threshold + m - self.z * np.sqrt(m + self.z**2 / 4)) / 2 + 1e-9)
        clipped: Floats = np.clip(k, -1.0, m)
        return clipped

    def probability(self, p10: Floats, p01: Floats) -> Floats:
        """P(T <= threshold) at each pair of rates, shape (pairs,), never too small."""
        p10, p01 = np.maximum(p10, _TINY), np.maximum(p01, _TINY)
        pi = p10 + p01
        log_pi, log_rest = np.log(pi), np.log(np.maximum(1.0 - pi, _TINY))
        m = _likely(self.n, pi)
        k = self.largest_b(m)
        # P(M = m), M being binomial(n, pi); rows are pairs, columns are m.
        mass = np.exp(_log_choose(self.n, m) + _outer(log_pi, m, log_rest, self.n - m))
        # P(B = k(m) | m), B being binomial(m, p10 / pi); nothing where k = -1.
        inside = np.maximum(k, 0.0)
        log_theta = np.log(p10) - log_pi
        edge = np.exp(_log_choose(m, inside) + _outer(log_theta, inside, np.log(p01) - log_pi, m - inside))
        edge[:, k < 0] = 0.0
        # P(B <= k(m) | m) by recurrence in m: one more trial takes P(B = k) p10 / pi, one more k adds P(B = k).
        theta = np.exp(log_theta)
        steps = np.zeros_like(k)
        np.subtract(k[1:], k[:-1], out=steps[1:])
        within = edge * steps
        within[:, 1:] -= theta[:, None] * edge[:, :-1]
        within[:, 0] = special.bdtr(k[0], int(m[0]), theta) if k[0] >= 0 else 0.0
        np.cumsum(within, axis=1, out=within)
        summed: Floats = np.einsum("ij,ij->i", mass, within)
        return np.minimum(summed + _SLACK, 1.0)


def _outer(a: Floats, x: Floats, b: Floats, y: Floats) -> Floats:
    """a_i x_j + b_i y_j, as one product of matrices."""
    left, right = np.empty((len(a), 2)), np.empty((2, len(x)))
    left[:, 0], left[:, 1], right[0], right[1] = a, b, x, y
    return left @ right


def _log_choose(n: Floats | int, k: Floats) -> Floats:
    chosen: Floats = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return chosen


def _likely(n: int, pi: Floats) -> Floats:
    """All m but those that binomial(n, any of pi) reaches with a probability of at most exp(-_TAIL) on either side.

    Source: the bounds of Chernoff below and of Bernstein above.
    """
    least, most = n * float(pi.min()), n * float(pi.max())
    first = math.floor(least - math.sqrt(2 * least * _TAIL))
    last = math.ceil(most + _TAIL / 3 + math.sqrt(_TAIL**2 / 9 + 2 * most * _TAIL))
    return np.arange(max(first, 0), min(last, n) + 1, dtype=np.float64)


@dataclass(frozen=True)
class _Nuisance:
    """The pairs of rates that are considered: p10 at most `p10_most`, p01 at least `p01_least`."""

    p10_most: float
    p01_least: float

    def cells(self, loss: float, count: int = _CELLS) -> Floats:
        """Positions of the ends of `count` equal cells on the line of rates with this loss; empty if there is none.

        The smaller rate is ymax sin^2(position): in it the Fisher information is nearly constant.
        """
        ymax = (1.0 - abs(loss)) / 2
        low, high = max(self.p01_least - max(-loss, 0.0), 0.0), min(self.p10_most - max(loss, 0.0), ymax)
        if low > high:
            return np.empty(0)
        if ymax == 0.0:
            return np.zeros(2)
        return np.linspace(math.asin(math.sqrt(low / ymax)), math.asin(math.sqrt(high / ymax)), count + 1)


def _rates(loss: float, position: Floats) -> tuple[Floats, Floats]:
    smaller = (1.0 - abs(loss)) / 2 * np.sin(position) ** 2
    return smaller + max(loss, 0.0), smaller + max(-loss, 0.0)


def _attained(ordering: _Ordering, nuisance: _Nuisance, loss: float) -> float:
    """The largest P(T <= threshold) at the ends of the cells: cheap, and not above the supremum."""
    position = nuisance.cells(loss, _CELLS_OF_SEARCH)
    return float(ordering.probability(*_rates(loss, position)).max()) if len(position) else 0.0


def _certified(ordering: _Ordering, nuisance: _Nuisance, loss: float, level: float) -> float:
    """What P(T <= threshold) never exceeds at this loss; cells are halved while that could matter for `level`."""
    position = nuisance.cells(loss)
    if len(position) == 0:
        return 0.0
    reached = ordering.probability(*_rates(loss, position))
    tolerance = _tolerance(ordering, nuisance, loss)
    outermost = np.array([0, -1])
    for _ in range(_ROUNDS):
        p10, p01 = _rates(loss, position)
        width, rest = np.diff(p10), np.maximum(1.0 - p10 - p01, 0.0)[1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            bend = math.sqrt(2) / 8 * ordering.n * (1 / p10[:-1] + 1 / p01[:-1] + 4 / rest) * width**2
        bend[width == 0.0] = 0.0
        # P <= end + bend sqrt(P), solved for P.
        end = np.maximum(reached[:-1], reached[1:])
        bound = ((bend + np.sqrt(bend**2 + 4 * end)) / 2) ** 2
        corner = ordering.probability(p10[:-1][outermost], p01[1:][outermost])
        bound[outermost] = np.minimum(bound[outermost], corner)
        values = len(_likely(ordering.n, p10 + p01))
        loose = np.flatnonzero(bound > max(level, float(reached.max()) * (1 + tolerance)))
        if len(loose) == 0 or len(position) * values > _WORK:
            break
        middle = (position[loose] + position[loose + 1]) / 2
        position = np.insert(position, loose + 1, middle)
        reached = np.insert(reached, loose + 1, ordering.probability(*_rates(loss, middle)))
    return float(bound.max())


def _tolerance(ordering: _Ordering, nuisance: _Nuisance, loss: float) -> float:
    """The share of a probability that is not worth the work of another cell.

    The more values m takes, the more work a cell is, and the less a small part of alpha moves the bound.
    """
    ends = nuisance.cells(loss, 1)
    if len(ends) == 0:
        return 1e-4
    p10, p01 = _rates(loss, ends)
    values = len(_likely(ordering.n, p10 + p01))
    return min(max(2e-6 * values, 1e-4), 2e-3)


def _near_root(
    excess: Callable[[float], float], low: float, high: float, start: float, step: float, close: float
) -> tuple[float, float]:
    """Where a falling function is within `close` of zero, and how far one unit of excess is from there.

    A secant search that halves the bracket where it would leave it.
    """
    at, before = start, None
    for _ in range(60):
        if not low < at < high:
            at = (low + high) / 2
        now = excess(at)
        low, high = (at, high) if now > 0 else (low, at)
        if abs(now) < close or high - low < 1e-12:
            break
        if before is not None and before[1] != now:
            secant = (at - before[0]) / (before[1] - now)
            step = secant if 0 < secant < 10 * step else step
        before = (at, now)
        at += step * now
    return at, step

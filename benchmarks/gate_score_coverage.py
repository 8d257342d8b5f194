"""How often the gate approves an engine whose true loss of score is exactly at the limit, by simulation.

For several distributions of paired scores, and n from 100 to 10,000, results are drawn whose true loss is the limit.
The gate's bound says of each draw whether the loss is within the limit; how often it does is told with an exact
binomial upper bound at 99.9 %. The same is done for the usual bounds, with their mean width above the loss seen.

    python benchmarks/gate_score_coverage.py            all of it, some minutes on two cores
    python benchmarks/gate_score_coverage.py --quick    n up to 1,000 and few draws, nothing written
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from regiolect.contracts import LossUnit
from regiolect.gate.bounds import clopper_pearson, loss_upper_bound
from regiolect.gate.score_bounds import Game, score_loss_upper
from regiolect.integrity import write_atomic

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
LOG = math.log(1 / ALPHA)
SIZES = (100, 300, 1000, 3000, 10_000)
COMPARED = (300, 3000)
RESULTS = Path(__file__).parent / "results"


def rare(rng: np.random.Generator, n: int) -> Pair:
    """One sample of 200 loses half of its score, nothing else changes."""
    reference = rng.uniform(0.5, 1.0, n)
    return reference, reference - 0.5 * (rng.random(n) < 0.005)


def whole(rng: np.random.Generator, n: int) -> Pair:
    """One sample of 250 loses everything, one of 500 gains everything: nearly right and wrong."""
    kind = rng.random(n)
    reference = np.where(kind < 0.004, 1.0, np.where(kind < 0.006, 0.0, 0.9))
    return reference, np.where(kind < 0.004, 0.0, np.where(kind < 0.006, 1.0, 0.9))


def lines(rng: np.random.Generator, n: int) -> Pair:
    """Lines of text of 5 to 25 characters: every tenth line has one wrong more, every twentieth one fewer."""
    length, kind = rng.integers(5, 26, n), rng.random(n)
    wrong = np.minimum(rng.poisson(1.0, n) + (kind > 0.95), length - 1)
    changed = wrong + np.where(kind < 0.1, 1, 0) - np.where(kind > 0.95, np.minimum(wrong, 1), 0)
    return 1 - wrong / length, 1 - changed / length


def dense(rng: np.random.Generator, n: int) -> Pair:
    """Every sample changes a little, by a normal deviate of 0.05 about a loss of 0.01."""
    return np.full(n, 0.5), np.clip(0.49 + rng.normal(0.0, 0.05, n), 0.0, 1.0)


def skewed(rng: np.random.Generator, n: int) -> Pair:
    """Most samples gain 0.01, one of 100 loses 0.9: what is lost hides in the tail."""
    return np.full(n, 0.95), np.where(rng.random(n) < 0.01, 0.05, 0.96)


def wild(rng: np.random.Generator, n: int) -> Pair:
    """Two unrelated scores, uniform and Beta(1, 1.2)."""
    return rng.random(n), rng.beta(1.0, 1.2, n)


def seldom_fractions(rng: np.random.Generator, n: int) -> Pair:
    """Right and wrong, 4 % lost and 2 % gained, but for a fraction in every other result.

    The exact bound decides in half of the cases and that of scores in the others.
    """
    kind = rng.random(n)
    reference = np.where(kind < 0.96, 1.0, np.where(kind < 0.98, 0.0, 1.0))
    engine = np.where(kind < 0.04, 0.0, 1.0)
    return reference, np.where(kind > 1 - 0.7 / n, 0.25, engine)


DISTRIBUTIONS: tuple[Callable[[np.random.Generator, int], Pair], ...] = (
    *(rare, whole, lines, dense, skewed, wild, seldom_fractions),
)


def approves(reference: Floats, engine: Floats, unit: LossUnit, limit: float) -> bool:
    """Whether the gate's bound is within the limit: the exact one where all scores are 0 or 1."""
    if np.isin(reference, (0.0, 1.0)).all() and np.isin(engine, (0.0, 1.0)).all():
        lost, gained = int((reference > engine).sum()), int((engine > reference).sum())
        return loss_upper_bound(lost, gained, len(reference), CONFIDENCE) <= limit
    game = Game.of(reference, engine, unit, CONFIDENCE)
    return game.seen <= limit and game.within(limit)


def aimed_bets(reference: Floats, engine: Floats) -> float:
    """The gate's bound of scores."""
    return score_loss_upper(reference, engine, LossUnit.ABSOLUTE_POINTS, CONFIDENCE)


def hedged_bets(reference: Floats, engine: Floats) -> float:
    """Waudby-Smith and Ramdas, JRSS B 86 (2024) 1: predictable bets for a fixed n."""
    lost = reference - engine
    n, t = len(lost), np.arange(1, len(lost) + 1)
    mean = np.cumsum(lost) / (t + 1)
    variance = (0.25 + np.cumsum((lost - mean) ** 2)) / (t + 1)
    bets = np.sqrt(2 * LOG / (n * np.concatenate([[0.25], variance[:-1]])))
    return rooted(lambda u: float(np.log1p(np.minimum(bets, 0.99 / (1 - u)) * (u - lost)).sum()) - LOG, lost.mean())


def mixed_bets(reference: Floats, engine: Floats) -> float:
    """The mean wealth of six constant bets, 1 to 1/32 of the largest: no order, and never smaller for more lost."""
    lost = np.minimum(reference - engine, 1 - 1e-12)
    shares = 0.5 ** np.arange(6)
    weights = np.log(1 / np.arange(1, 7) / (1 / np.arange(1, 7)).sum())

    def excess(u: float) -> float:
        gains = np.maximum((u - lost) / (1 - u), -1 + 1e-15)
        return float(special.logsumexp(np.log1p(shares[:, None] * gains).sum(axis=1) + weights)) - LOG

    return rooted(excess, lost.mean())


def empirical_bernstein(reference: Floats, engine: Floats) -> float:
    """Maurer and Pontil, COLT 2009."""
    lost = reference - engine
    log, n = math.log(2 / ALPHA), len(lost)
    return float(lost.mean() + math.sqrt(2 * lost.var(ddof=1) * log / n) + 14 * log / (3 * (n - 1)))


def hoeffding(reference: Floats, engine: Floats) -> float:
    """Hoeffding, JASA 58 (1963) 13."""
    return float((reference - engine).mean() + math.sqrt(2 * LOG / len(reference)))


def student(reference: Floats, engine: Floats) -> float:
    """The t interval."""
    lost = reference - engine
    return float(lost.mean() + special.stdtrit(len(lost) - 1, CONFIDENCE) * lost.std(ddof=1) / math.sqrt(len(lost)))


def rooted(excess: Callable[[float], float], seen: float) -> float:
    """Where a rising function reaches 0 above `seen`."""
    if excess(seen) >= 0:
        return float(seen)
    return float(optimize.brentq(excess, seen, 1 - 1e-9, xtol=1e-7)) if excess(1 - 1e-9) > 0 else 1.0


METHODS: tuple[Callable[[Floats, Floats], float], ...] = (
    *(aimed_bets, hedged_bets, mixed_bets, empirical_bernstein, hoeffding, student),
)


def true_loss(draw: Callable[[np.random.Generator, int], Pair], unit: LossUnit, n: int) -> float:
    """The mean loss: in closed form where the distribution has one, else from ten million pairs."""
    known = {
        "rare": 0.0025,
        "whole": 0.002,
        "skewed": 0.01 * 0.9 - 0.99 * 0.01,
        "seldom_fractions": 0.02 + 0.75 * 0.7 / n,
        "wild": 0.5 - 1 / 2.2,
    }
    if unit is LossUnit.ABSOLUTE_POINTS and draw.__name__ in known:
        return known[draw.__name__]
    rng, lost, worth = np.random.default_rng(0), 0.0, 0.0
    for _ in range(10):
        reference, engine = draw(rng, 10**6)
        lost, worth = lost + float((reference - engine).sum()), worth + float(reference.sum())
    return lost / (worth if unit is LossUnit.RELATIVE_PERCENT else 10**7)


def gate_row(name: str, unit: LossUnit, n: int, draws: int) -> dict[str, Any]:
    """How often the gate says of a loss at the limit that it is within."""
    draw = next(each for each in DISTRIBUTIONS if each.__name__ == name)
    true, rng = true_loss(draw, unit, n), np.random.default_rng(n)
    approved = sum(approves(*draw(rng, n), unit, true) for _ in range(draws))
    return {
        "distribution": name,
        "unit": unit.value,
        "n": n,
        "limit_percent": 100 * true,
        "draws": draws,
        "approved": approved,
        "false_approval": approved / draws,
        "at_most": clopper_pearson(approved, draws, 0.001)[1],
    }


def method_row(method: str, name: str, n: int, draws: int) -> dict[str, Any]:
    """False approval and mean width of one bound on one distribution."""
    bound = next(each for each in METHODS if each.__name__ == method)
    draw = next(each for each in DISTRIBUTIONS if each.__name__ == name)
    true, rng = true_loss(draw, LossUnit.ABSOLUTE_POINTS, n), np.random.default_rng(n)
    approved, width = 0, 0.0
    for _ in range(draws):
        reference, engine = draw(rng, n)
        upper = bound(reference, engine)
        approved += upper <= true
        width += upper - float((reference - engine).mean())
    return {
        "method": method,
        "distribution": name,
        "n": n,
        "false_approval": approved / draws,
        "width_points": 100 * width / draws,
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a page of tables."""
    lines = [
        "# False approval of the gate on scores",
        "",
        f"Chance of approving an engine whose true loss of score is exactly the limit; stated level {ALPHA:.0%},",
        "one-sided. Simulated; “at most” is an exact binomial upper bound at 99.9 %. The bound holds by proof; the",
        "table shows how careful it is. By `benchmarks/gate_score_coverage.py`, where the distributions are described.",
        "",
        "| distribution | unit | n | limit, % | draws | false approval | at most |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['distribution']} | {row['unit']} | {row['n']:,} | {row['limit_percent']:.3f} | {row['draws']:,} "
        f"| {row['false_approval']:.2%} | {row['at_most']:.2%} |"
        for row in report["gate"]
    ]
    lines += [
        "",
        "## Other bounds",
        "",
        "False approval, and how far the bound lies above the loss seen, in points. A bound that is narrower by a",
        "third needs about half of the samples where answers differ often.",
        "",
        "| distribution | n | " + " | ".join(method.__name__ for method in METHODS) + " |",
        "| --- | --- |" + " --- |" * len(METHODS),
    ]
    for n in sorted({row["n"] for row in report["methods"]}):
        for name in dict.fromkeys(row["distribution"] for row in report["methods"]):
            cells = [row for row in report["methods"] if (row["n"], row["distribution"]) == (n, name)]
            told = [f"{row['false_approval']:.1%}, {row['width_points']:.2f}" for row in cells]
            lines.append(f"| {name} | {n:,} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="n up to 1,000 and few draws, nothing written")
    parser.add_argument("--draws", type=int, default=10_000, help="results drawn per row")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    draws = 500 if chosen.quick else chosen.draws
    sizes = [n for n in SIZES if n <= 1000] if chosen.quick else SIZES
    compared = COMPARED[:1] if chosen.quick else COMPARED
    names = [each.__name__ for each in DISTRIBUTIONS]
    points, percent = LossUnit.ABSOLUTE_POINTS, LossUnit.RELATIVE_PERCENT
    cases = [(name, points, n) for name in names for n in sizes]
    cases += [(name, percent, n) for name in ("rare", "lines", "dense") for n in sizes]
    with ProcessPoolExecutor(chosen.processes) as pool:
        rows = [pool.submit(gate_row, *case, draws) for case in cases]
        methods = [
            pool.submit(method_row, method.__name__, name, n, draws // 10)
            for n in compared
            for name in names
            for method in METHODS
        ]
        report: dict[str, Any] = {
            "confidence": CONFIDENCE,
            "machine": platform.machine(),
            "gate": [row.result() for row in rows],
            "methods": [row.result() for row in methods],
        }
    print(markdown(report))
    if not chosen.quick:
        write_atomic(RESULTS / "gate_score_coverage.json", (json.dumps(report, indent=2) + "\n").encode())
        write_atomic(RESULTS / "gate_score_coverage.md", markdown(report).encode())
    exceeded = [row for row in report["gate"] if clopper_pearson(row["approved"], row["draws"], 0.001)[0] > ALPHA]
    if exceeded:
        raise SystemExit(f"false approval above {ALPHA:.2%}: {exceeded}")


if __name__ == "__main__":
    main()

"""How often the gate approves an engine whose true loss is exactly at the limit, by enumeration.

For every n and limit, the tables that the gate approves are found by asking it, and their trinomial probability is
summed at the limit over a dense grid of disagreement rates; the worst rate counts. It must not exceed 1 - confidence.
The same is done for the usual intervals, which is why they are not used. Nothing here is simulated.

    python benchmarks/gate_coverage.py            all of it, some minutes on two cores
    python benchmarks/gate_coverage.py --quick    n up to 300
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from regiolect.gate.bounds import clopper_pearson, loss_upper_bound, minimum_samples
from regiolect.integrity import write_atomic

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
Z = float(special.ndtri(CONFIDENCE))
LIMITS = (0.1, 0.5, 1.0, 2.0)  # points
CASES = (  # n, limit, largest disagreement rate looked at
    *((n, limit, 1.0) for n in (100, 200, 300, 500, 1000) for limit in LIMITS),
    *((3000, limit, 1.0) for limit in LIMITS),
    *((10_000, limit, 0.3) for limit in LIMITS),
)
RATES = 600
RESULTS = Path(__file__).parent / "results"


def disagreement(loss: float, most: float) -> tuple[Floats, Floats]:
    """Rates p10 and p01 = p10 - loss, dense where disagreement is rare."""
    p01 = (most - loss) / 2 * np.linspace(0, 1, RATES) ** 2
    return p01 + loss, p01


def approved_by_gate(n: int, limit: float, last: int) -> NDArray[np.int_]:
    """For each c up to `last`, the largest b that the gate approves, -1 if none."""
    largest, b = np.full(last + 1, -1), -1
    for c in range(last + 1):
        # What is approved with c gained is approved with more: the bound falls with c.
        while b + 1 + c <= n and 100 * loss_upper_bound(b + 1, c, n, CONFIDENCE) <= limit:
            b += 1
        largest[c] = b
    return largest


def gate_row(n: int, limit: float, most: float) -> dict[str, Any]:
    """The gate's own worst false approval at one n and limit."""
    started = time.perf_counter()
    last = min(n, math.ceil(n * most / 2 + 8 * math.sqrt(n * most / 2) + 8))
    largest = approved_by_gate(n, limit, last)
    c = np.arange(last + 1)
    p10, p01 = disagreement(limit / 100, most)
    chance = special.xlogy(c, p01[:, None]) + special.xlog1py(n - c, -p01[:, None])
    chance = np.exp(chance + special.gammaln(n + 1) - special.gammaln(c + 1) - special.gammaln(n - c + 1))
    among = np.minimum(p10 / (1 - p01), 1.0)[:, None]
    below = special.bdtr(np.clip(largest, 0, n - c).astype(float), n - c, among)
    approved = (chance * np.where(largest >= 0, below, 0.0)).sum(axis=1)
    worst = int(approved.argmax())
    return {
        "n": n,
        "limit_points": limit,
        "worst_false_approval": float(approved[worst]),
        "at_disagreement": float(p10[worst] + p01[worst]),
        "disagreement_up_to": most,
        "seconds": round(time.perf_counter() - started, 1),
    }


def wald(b: Floats, c: Floats, n: int, loss: float) -> Floats:
    """Normal interval with the observed variance."""
    d = (b - c) / n
    return d + Z * np.sqrt(np.maximum((b + c) / n - d * d, 0) / n) <= loss


def mcnemar(b: Floats, c: Floats, n: int, loss: float) -> Floats:
    """Approve unless an exact McNemar test says that the engine is worse."""
    m = b + c
    p = np.where(b > 0, special.bdtrc(np.maximum(b - 1, 0), np.maximum(m, 1).astype(int), 0.5), 1.0)
    return p > ALPHA


def score(b: Floats, c: Floats, n: int, loss: float) -> Floats:
    """Tango's asymptotic score interval, Statistics in Medicine 17 (1998) 891."""
    linear = -b - c + (2 * n - b + c) * loss
    p01 = (np.sqrt(np.maximum(linear**2 + 8 * n * c * loss * (1 - loss), 0)) - linear) / (4 * n)
    return (b - c - n * loss) / np.sqrt(n * (2 * p01 + loss * (1 - loss))) <= -Z


def newcombe(b: Floats, c: Floats, n: int, loss: float, right: float = 0.9) -> Floats:
    """Newcombe's square-and-add interval for paired rates, Statistics in Medicine 17 (1998) 2635, method 8.

    Both marginal scores are needed; the reference's is taken to be `right`.
    """
    first = np.full_like(b, right)
    second = np.clip(first - (b - c) / n, 0, 1)

    def wilson(p: Floats) -> tuple[Floats, Floats]:
        middle, half = p + Z * Z / (2 * n), Z * np.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return (middle - half) / (1 + Z * Z / n), (middle + half) / (1 + Z * Z / n)

    n11 = np.maximum(first * n - b, 0)
    n00 = np.maximum(n - n11 - b - c, 0)
    product = first * n * (n - first * n) * second * n * (n - second * n)
    phi = np.where(product > 0, (n11 * n00 - b * c) / np.sqrt(np.maximum(product, 1e-300)), 0.0)
    up, down = wilson(first)[1] - first, second - wilson(second)[0]
    spread = np.maximum(up**2 - 2 * phi * up * down + down**2, 0)
    return (b - c) / n + np.sqrt(spread) <= loss


def bootstrap(b: Floats, c: Floats, n: int, loss: float) -> Floats:
    """Percentile bootstrap with infinitely many resamples: the upper percentile of a resampled table's loss."""
    k = np.arange(n + 1)
    resampled = np.exp(
        special.xlogy(k, (c / n)[:, None])
        + special.xlog1py(n - k, -(c / n)[:, None])
        + (special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))
    )
    most = np.minimum(np.floor(k + n * loss + 1e-9), n - k)
    below = special.bdtr(most[None, :], (n - k)[None, :], (b / np.maximum(n - c, 1))[:, None])
    return (resampled * below).sum(axis=1) >= CONFIDENCE - 1e-12


def two_limits(b: Floats, c: Floats, n: int, loss: float) -> Floats:
    """Clopper-Pearson upper limit of p10 less lower limit of p01, half of alpha each (Bonferroni)."""
    upper = np.where(b < n, special.betainccinv(b + 1, np.maximum(n - b, 1), ALPHA / 2), 1.0)
    lower = np.where(c > 0, special.betaincinv(np.maximum(c, 1), n - c + 1, ALPHA / 2), 0.0)
    return upper - lower <= loss


def gate(b: Floats, c: Floats, n: int, loss: float) -> Floats:
    """The gate itself."""
    largest = approved_by_gate(n, 100 * loss, int(c.max()))
    return b <= largest[c.astype(int)]


METHODS: tuple[Callable[..., Floats], ...] = (gate, two_limits, score, newcombe, wald, bootstrap, mcnemar)


def method_row(method: str, n: int, limit: float, most: float = 0.1) -> dict[str, Any]:
    """False approval of one method with the true loss at the limit, and approval of an engine that loses nothing."""
    loss = limit / 100
    top = math.ceil(n * most / 2 + 7 * math.sqrt(n * most / 2) + 7 + n * loss)
    b, c = (axis.ravel().astype(float) for axis in np.mgrid[0 : min(top, n) + 1, 0 : min(top, n) + 1])
    b, c = b[b + c <= n], c[b + c <= n]
    approved = next(each for each in METHODS if each.__name__ == method)(b, c, n, loss).astype(float)
    ways = special.gammaln(n + 1) - special.gammaln(b + 1) - special.gammaln(c + 1) - special.gammaln(n - b - c + 1)

    def chance(p10: float, p01: float) -> float:
        logs = special.xlogy(b, p10) + special.xlogy(c, p01) + special.xlogy(n - b - c, 1 - p10 - p01)
        return float(np.exp(ways + logs) @ approved)

    rates = list(zip(*disagreement(loss, most), strict=True))[::6]
    return {
        "method": method,
        "n": n,
        "limit_points": limit,
        "worst_false_approval": max(chance(float(p10), float(p01)) for p10, p01 in rates),
        "approves_equal_engine_at_2_percent": chance(0.01, 0.01),
    }


def samples_of_two_limits(limit: float) -> int:
    """Fewest samples with no disagreement at which `two_limits` approves."""
    return math.ceil(math.log(ALPHA / 2) / math.log1p(-limit / 100))


def balanced(limit: float, rate: float, upper: Callable[[int, int, int], float]) -> int:
    """Fewest samples, to 0.5 %, that approve when `rate` of them are lost and as many gained."""
    low, high = 1, 10_000_000
    while high - low > max(1, low // 200):
        n = (low + high) // 2
        low, high = (low, n) if upper(round(rate * n), round(rate * n), n) <= limit / 100 else (n, high)
    return high


def cost_row(limit: float) -> dict[str, Any]:
    """Samples that the gate needs, against the two Clopper-Pearson limits."""

    def by_gate(b: int, c: int, n: int) -> float:
        return loss_upper_bound(b, c, n, CONFIDENCE)

    def by_limits(b: int, c: int, n: int) -> float:
        return clopper_pearson(b, n, ALPHA / 2)[1] - clopper_pearson(c, n, ALPHA / 2)[0]

    return {
        "limit_points": limit,
        "no_disagreement": {
            "gate": minimum_samples(limit / 100, CONFIDENCE),
            "two_limits": samples_of_two_limits(limit),
        },
        "one_percent_lost_and_gained": {
            "gate": balanced(limit, 0.01, by_gate),
            "two_limits": balanced(limit, 0.01, by_limits),
        },
    }


def timing_rows() -> list[dict[str, Any]]:
    """Time of both bounds on 10,000 samples, the fastest of five in this run."""
    rows = []
    for b, c in ((0, 0), (20, 20), (100, 100), (500, 500)):
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            loss_upper_bound(b, c, 10_000, CONFIDENCE)
            loss_upper_bound(c, b, 10_000, CONFIDENCE)
            seconds.append(time.perf_counter() - started)
        rows.append({"n": 10_000, "lost": b, "gained": c, "ms": round(1000 * min(seconds), 1)})
    return rows


def markdown(report: dict[str, Any]) -> str:
    """The report as a page of tables."""
    lines = [
        "# False approval of the gate",
        "",
        f"Chance of approving an engine whose true loss is exactly the limit; stated level {ALPHA:.0%}, one-sided.",
        f"Enumerated over all tables, the worst of {RATES} disagreement rates. By `benchmarks/gate_coverage.py`.",
        "",
        "| n | limit, points | worst false approval | at disagreement | rates up to |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['n']:,} | {row['limit_points']:g} | {row['worst_false_approval']:.3%} "
        f"| {row['at_disagreement']:.2%} | {row['disagreement_up_to']:.0%} |"
        for row in report["gate"]
    ]
    lines += [
        "",
        "## Other bounds, disagreement up to 10 %",
        "",
        "Last column: how often an engine that loses nothing, and disagrees on 2 %, is approved.",
        "",
        "| method | n | limit, points | worst false approval | approves an equal engine |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['method']} | {row['n']:,} | {row['limit_points']:g} | {row['worst_false_approval']:.2%} "
        f"| {row['approves_equal_engine_at_2_percent']:.1%} |"
        for row in report["methods"]
    ]
    lines += [
        "",
        "## Samples needed at 95 %",
        "",
        "| limit, points | no disagreement: gate | two limits | 1 % lost, 1 % gained: gate | two limits |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in report["cost"]:
        none, some = row["no_disagreement"], row["one_percent_lost_and_gained"]
        lines.append(
            f"| {row['limit_points']:g} | {none['gate']:,} | {none['two_limits']:,} "
            f"| {some['gate']:,} | {some['two_limits']:,} |"
        )
    lines += ["", "## Time of both bounds", "", "| n | lost | gained | ms |", "| --- | --- | --- | --- |"]
    lines += [f"| {row['n']:,} | {row['lost']} | {row['gained']} | {row['ms']} |" for row in report["time"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="n up to 300 only, nothing written")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    cases = [case for case in CASES if case[0] <= 300] if chosen.quick else CASES
    compared = [(300, 0.1), (300, 0.5), (1000, 0.5)]
    time_rows = timing_rows()
    with ProcessPoolExecutor(chosen.processes) as pool:
        rows = [pool.submit(gate_row, n, limit, most) for n, limit, most in reversed(cases)]
        methods = [pool.submit(method_row, each.__name__, n, limit) for n, limit in compared for each in METHODS]
        cost = [pool.submit(cost_row, limit) for limit in LIMITS]
        report = {
            "confidence": CONFIDENCE,
            "machine": platform.machine(),
            "gate": sorted((row.result() for row in rows), key=lambda row: (row["n"], row["limit_points"])),
            "methods": [row.result() for row in methods],
            "cost": [row.result() for row in cost],
            "time": time_rows,
        }
    print(markdown(report))
    if not chosen.quick:
        write_atomic(RESULTS / "gate_coverage.json", (json.dumps(report, indent=2) + "\n").encode())
        write_atomic(RESULTS / "gate_coverage.md", markdown(report).encode())
    exceeded = [row for row in report["gate"] if row["worst_false_approval"] > ALPHA]
    if exceeded:
        raise SystemExit(f"false approval above {ALPHA:.2%}: {exceeded}")


if __name__ == "__main__":
    main()

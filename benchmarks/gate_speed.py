"""How long the gate takes for 10,000 paired results: checked, bounded from both sides, slices and all.

Beside it, McNemar's exact test of the same results by scipy, from arrays to p-value: what a gate that asks the wrong
question would take. Every figure is the median and the slowest of the rounds. Nothing is
kept between rounds but the digest of the results, which is taken when they are read.

    python benchmarks/gate_speed.py            exits with 1 if a median is above 50 ms
    python benchmarks/gate_speed.py --quick    three rounds, nothing written
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from regiolect.contracts import (
    LossUnit,
)
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.integrity import digest_bytes, write_atomic
from regiolect.policy import RegionPolicy, SliceRules, SpeedLimit
from tests.unit.gate import cases

SAMPLES = 10_000
MOST_MS = 50.0
RESULTS = Path(__file__).parent / "results"


def answers(lost: int, gained: int) -> PairedResults:
    """Right/wrong results in 10 classes from 4 devices; which answers differ is drawn."""
    rng = np.random.default_rng(1)
    reference = (rng.random(SAMPLES) < 0.9).astype(float)
    engine = reference.copy()
    engine[rng.choice(np.flatnonzero(reference == 1), lost, replace=False)] = 0
    engine[rng.choice(np.flatnonzero(reference == 0), gained, replace=False)] = 1
    return sliced(reference, engine)


def scores(share: float) -> PairedResults:
    """Scores in [0, 1], of which a share differs by a normal deviate of 0.05."""
    rng = np.random.default_rng(2)
    reference = rng.uniform(0.7, 0.9, SAMPLES)
    return sliced(reference, reference + np.where(rng.random(SAMPLES) < share, rng.normal(0, 0.03, SAMPLES), 0.0))


def sliced(reference: Any, engine: Any) -> PairedResults:
    """The results with a class and a device for each sample."""
    rng = np.random.default_rng(3)
    columns = {"label": rng.integers(0, 10, SAMPLES).astype(str), "device": rng.choice(list("abcd"), SAMPLES)}
    ids = tuple(f"gate-{index:06d}" for index in range(SAMPLES))
    return PairedResults(ids, reference, np.clip(engine, 0.0, 1.0), columns)


CASES: dict[str, Callable[[], PairedResults]] = {
    "nothing differs": lambda: answers(0, 0),
    "20 lost, 20 gained": lambda: answers(20, 20),
    "100 lost, 100 gained": lambda: answers(100, 100),
    "500 lost, 500 gained": lambda: answers(500, 500),
    "scores, 5 % differ": lambda: scores(0.05),
    "scores, all differ": lambda: scores(1.0),
}


def policy(unit: LossUnit, slices: bool) -> RegionPolicy:
    """Half a point on the whole and three on each of fourteen slices; times are limited too."""
    rules = SliceRules(by=("label", "device"), limit=3.0) if slices else None
    speed = SpeedLimit(least_throughput=100, least_speedup=1.1)
    return cases.policy(accuracy={"unit": unit, "slices": rules}, speed=speed)


def mcnemar(rows: PairedResults) -> float:
    """McNemar's exact test, one-sided, as scipy's binomial test."""
    lost = int(((rows.reference == 1) & (rows.engine == 0)).sum())
    gained = int(((rows.reference == 0) & (rows.engine == 1)).sum())
    return float(stats.binomtest(lost, max(lost + gained, 1), 0.5, alternative="greater").pvalue)


def timed(call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median and slowest of the rounds in ms, after one to warm up."""
    call()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - started))
    return float(np.median(taken)), max(taken)


def row(name: str, rounds: int) -> dict[str, Any]:
    """The times of one case."""
    rows = CASES[name]()
    engine, proof, evaluation = cases.engine(), cases.attestation(), cases.evaluation(rows, timing=cases.BOUNDED)
    found: dict[str, Any] = {"case": name, "samples": SAMPLES}
    for slices in (False, True):
        for unit in LossUnit:
            rules = policy(unit, slices)

            def decide(rules: RegionPolicy = rules) -> object:
                return decide_gate(engine, rules, proof, evaluation, rows)

            key = f"{unit.value}{', 14 slices' if slices else ''}"
            found[key] = dict(zip(("median_ms", "slowest_ms"), timed(decide, rounds), strict=True))
    if np.isin(rows.engine, (0.0, 1.0)).all():
        found["mcnemar_ms"] = timed(lambda: mcnemar(rows), rounds)[0]
    found["csv_ms"] = timed(lambda: digest_bytes(rows.to_csv()), rounds)[0]
    return found


def markdown(report: dict[str, Any]) -> str:
    """The report as a page of tables."""
    kinds = [f"{unit.value}{more}" for more in ("", ", 14 slices") for unit in LossUnit]
    lines = [
        "# Time of the gate",
        "",
        f"One decision on {SAMPLES:,} paired results, in ms: the median of {report['rounds']} rounds, in brackets the",
        f"slowest. At most {MOST_MS:g} is asked for. The digest of the results is taken once, when they are",
        "read; what it takes stands beside the decisions, and so does",
        "McNemar's exact test alone by scipy, which answers another question. By `benchmarks/gate_speed.py`.",
        "",
        f"| results | {' | '.join(kinds)} | besides, CSV and digest | McNemar by scipy |",
        f"| --- |{' --- |' * (len(kinds) + 2)}",
    ]
    for case in report["cases"]:
        told = [f"{case[kind]['median_ms']:.1f} ({case[kind]['slowest_ms']:.1f})" for kind in kinds]
        other = f"{case['mcnemar_ms']:.2f}" if "mcnemar_ms" in case else "-"
        lines.append(f"| {case['case']} | {' | '.join(told)} | {case['csv_ms']:.1f} | {other} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds, nothing written")
    parser.add_argument("--rounds", type=int, default=31)
    chosen = parser.parse_args()
    rounds = 3 if chosen.quick else chosen.rounds
    cases = [row(name, rounds) for name in CASES]
    report = {"machine": platform.machine(), "rounds": rounds, "cases": cases}
    print(markdown(report))
    if not chosen.quick:
        write_atomic(RESULTS / "gate_speed.json", (json.dumps(report, indent=2) + "\n").encode())
        write_atomic(RESULTS / "gate_speed.md", markdown(report).encode())
    medians = [figures["median_ms"] for case in cases for figures in case.values() if isinstance(figures, dict)]
    if max(medians) > MOST_MS:
        raise SystemExit(f"the slowest decision took {max(medians):.1f} ms in the median, {MOST_MS:g} are asked for")


if __name__ == "__main__":
    main()

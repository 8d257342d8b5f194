"""How fast an audit is beside hashing the same bytes, which is the least that it can do.

200 engines are registered, 20 models in 10 regions, each with results of 4,000 samples of its own, a calibration table
and a signed decision; engines are random bytes, and the gate's decisions on them are true ones. Both look at the same
files in the page cache, in turn: `hash` one file after another, the audit as `regiolect audit` runs it.

    python -m benchmarks.audit [--megabytes 1,5,20] [--rounds 3]

Writes benchmarks/results/audit.json and audit.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from regiolect.audit import audit
from regiolect.host.cpu import cpu_fingerprint
from regiolect.host.processors import processors
from regiolect.integrity import digest_file, write_atomic
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.registry import Registry
from regiolect.signing.keyring import Keyring
from regiolect.storage import LocalStore
from tests.conftest import Bundles
from tests.unit.audit.desk import Desk, stated

RESULTS = Path(__file__).parent / "results"
MODELS, REGIONS = 20, 10
LEAST = 0.5


def registered(root: Path, megabytes: float) -> tuple[Registry, PolicyBook]:
    """A registry of engines of that size, and the policies that they were approved under."""
    keyring = Keyring.at(root / "key.pem", root / "trust.json")
    keyring.create("benchmark")
    registry = Registry(f"sqlite:///{root / 'mlflow.db'}", root / "artifacts", keyring=keyring)
    random = np.random.default_rng(1)
    for region in (f"region{number}" for number in range(REGIONS)):
        policy = RegionPolicy.model_validate(stated(region))
        for model in range(MODELS):
            with tempfile.TemporaryDirectory(dir=root) as scratch:
                bundles = Bundles(LocalStore(Path(scratch) / "store"), model=f"model{model}")
                desk = Desk(
                    registry,
                    dataclasses.replace(bundles, policy=policy),
                    Path(scratch) / "policies",
                    region,
                    stated(region),
                )
                lost = int(random.integers(0, 9))
                desk.release(desk.approved(lost=lost, content=random.bytes(int(megabytes * 1e6))))
    folder = root / "policies"
    folder.mkdir()
    for region in (f"region{number}" for number in range(REGIONS)):
        (folder / f"{region}.yaml").write_text(json.dumps(stated(region)))
    return registry, PolicyBook(folder)


def measure(megabytes: float, rounds: int) -> dict[str, Any]:
    """Seconds of both, and their ratio by round."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        registry, book = registered(root, megabytes)
        files = [path for path in sorted((root / "artifacts").rglob("bundle/**/*")) if path.is_file()]
        hashed, audited = [], []
        for number in range(rounds + 1):
            started = time.perf_counter()
            for path in files:
                digest_file(path)
            between = time.perf_counter()
            result = audit(registry, book)
            ended = time.perf_counter()
            if not result.clean or len(result.versions) != MODELS * REGIONS:
                raise SystemExit(f"the audit is not clean: {result.summary()}")
            # The first round warms up.
            if number:
                hashed.append(between - started)
                audited.append(ended - between)
        size = sum(path.stat().st_size for path in files) / 1e6
    ratios = [one / other for one, other in zip(hashed, audited, strict=True)]
    return {
        "engine_mb": megabytes,
        "engines": MODELS * REGIONS,
        "total_mb": round(size, 1),
        "hash_seconds": round(statistics.median(hashed), 3),
        "audit_seconds": round(statistics.median(audited), 3),
        "of_hashing_speed": round(statistics.median(ratios), 3),
    }


def as_table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"{result['cpu']['cpu']}, {result['cores']} cores; medians of {result['rounds']} rounds, in turn, files in the "
        "page cache. Hashing is SHA-256 of every file of the bundles, one after another.",
        "",
        "| engines | MB each | MB in all | hashing, s | audit, s | audit's speed over hashing's |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['engines']} | {row['engine_mb']:g} | {row['total_mb']:,} | {row['hash_seconds']} | "
        f"{row['audit_seconds']} | {row['of_hashing_speed']}x |"
        for row in result["rows"]
    ]
    fit = result["fit"]
    kept = "kept" if result["kept"] else "NOT KEPT"
    lines += [
        "",
        f"A straight line through them: {fit['ms_per_engine']} ms per engine and {fit['seconds_per_gb']} s per GB; the "
        f"largest deviation is {fit['largest_deviation']:.1%}. Promised: linear in bytes, and at least {LEAST}x of the "
        f"speed of hashing for the largest: {kept}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", default="1,5,20", help="sizes of an engine, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = [measure(float(each), arguments.rounds) for each in arguments.megabytes.split(",")]
    sizes, seconds = [row["total_mb"] for row in rows], [row["audit_seconds"] for row in rows]
    slope, start = np.polyfit(sizes, seconds, 1) if len(rows) > 1 else (seconds[0] / sizes[0], 0.0)
    deviation = max(abs(start + slope * x - y) / y for x, y in zip(sizes, seconds, strict=True))
    result = {
        "cpu": cpu_fingerprint(),
        "cores": processors(),
        "rounds": arguments.rounds,
        "rows": rows,
        "fit": {
            "ms_per_engine": round(1000 * float(start) / (MODELS * REGIONS), 1),
            "seconds_per_gb": round(1000 * float(slope), 2),
            "largest_deviation": round(float(deviation), 3),
        },
        "kept": rows[-1]["of_hashing_speed"] >= LEAST,
    }
    table = as_table(result)
    RESULTS.mkdir(exist_ok=True)
    write_atomic(RESULTS / "audit.json", (json.dumps(result, indent=2) + "\n").encode())
    write_atomic(RESULTS / "audit.md", table.encode())
    print(table)


if __name__ == "__main__":
    main()

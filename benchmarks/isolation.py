"""What child processes cost: the demo with every stage in a child, and with all stages in its own process.

    python -m benchmarks.isolation [--quick] [--pairs 5]

Each run is `regiolect run examples.fashion:MODEL --drills` in a home of its own, as `make demo` runs it; the two of a
pair follow each other, in changing order. What counts is the median of the pairs' ratios. Writes
benchmarks/results/isolation.json and isolation.md, unless --quick.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from regiolect.host.cpu import cpu_fingerprint
from regiolect.host.processors import processors
from regiolect.integrity import write_atomic

DEMO = ("run", "examples.fashion:MODEL", "--drills")
WAYS = ("off", "on")
RESULTS = Path(__file__).parent / "results"
# What the project promises.
PERCENT = 10.0
_FOREIGN = ("AWS_", "MLFLOW_", "PREFECT_", "REGIOLECT_")


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one pair; writes no result")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    seconds = measured(1 if arguments.quick else arguments.pairs)
    result = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": cpu_fingerprint() | {"cores": str(processors())},
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
        "promise_percent": PERCENT,
        "seconds": seconds,
        "percent": round(percent(seconds), 1),
    }
    table = as_text(result)
    print(table)
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        write_atomic(RESULTS / "isolation.json", (json.dumps(result, indent=2) + "\n").encode())
        write_atomic(RESULTS / "isolation.md", table.encode())


def measured(pairs: int) -> dict[str, list[float]]:
    """Seconds of each run by REGIOLECT_ISOLATION, a pair at the same place in both lists."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="regiolect-benchmark-") as folder:
        # What a first run in an environment does once, such as compiling its modules, is no part of either.
        run(Path(folder) / "unmeasured", "on")
        for pair in range(pairs):
            for way in WAYS if pair % 2 == 0 else reversed(WAYS):
                seconds[way].append(run(Path(folder) / f"{way}-{pair}", way))
    return seconds


def run(home: Path, way: str) -> float:
    """Wall seconds of one demo; SystemExit unless all that it should approve is approved, and each drill refused."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    own = {"REGIOLECT_HOME": str(home), "REGIOLECT_ISOLATION": way, "XDG_CONFIG_HOME": str(home / "configuration")}
    command = [sys.executable, "-c", "from regiolect.cli.app import main; main()", *DEMO]
    clock = time.perf_counter()
    done = subprocess.run(command, env=kept | own, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - clock
    if done.returncode != 0:
        raise SystemExit(f"the demo ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return seconds


def percent(seconds: dict[str, list[float]]) -> float:
    """What children add to a demo: the median over pairs."""
    return 100.0 * (median(on / off for on, off in zip(seconds["on"], seconds["off"], strict=True)) - 1.0)


def as_text(result: dict[str, Any]) -> str:
    """The table, with what it was measured on."""
    machine, seconds = result["machine"], result["seconds"]
    lines = [
        "# What child processes cost the demo",
        "",
        f"{machine['cpu']} ({machine['isa']}), {machine['cores']} cores, load {result['load'][0]} before and "
        f"{result['load'][1]} after, {result['measured']}. `python -m benchmarks.isolation`",
        "",
        "| stages run | median s | least s | most s | runs |",
        "| --- | --- | --- | --- | --- |",
    ]
    for way, words in (("off", "in the command's process"), ("on", "in child processes")):
        each = seconds[way]
        lines.append(f"| {words} | {median(each):.1f} | {min(each):.1f} | {max(each):.1f} | {len(each)} |")
    lines += ["", f"Children add {result['percent']:+.1f} %, the median over pairs; promised: at most {PERCENT:g} %."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

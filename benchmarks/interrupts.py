"""Seconds from Ctrl-C to the prompt: in a build, a tuning, an evaluation, and a wait for the machine.

    python -m benchmarks.interrupts [--quick] [--rounds 5]

Each is a real command, stopped where it computes in a library that answers no signal, or measures, or waits for another
process. It counts only if nothing is left of it: no process, no word after its last. The network is tiny: what is timed
is how a command ends, and not what it was at. Writes benchmarks/results/interrupts.json and interrupts.md, unless
--quick.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from regiolect.host.cpu import cpu_fingerprint
from regiolect.host.processors import processors
from regiolect.integrity import write_atomic
from tests.e2e.interrupted import Desk, Running, desk_in
from tests.flows.tiny_models import ADDRESS
from tests.patience import PATIENCE

RESULTS = Path(__file__).parent / "results"
# What the project promises.
SECONDS = 5.0


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round; writes no result")
    parser.add_argument("--rounds", type=int, default=5, help="interruptions of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regiolect-benchmark-") as folder:
        seconds = measured(desk_in(Path(folder)), 1 if arguments.quick else arguments.rounds)
    result = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": {**cpu_fingerprint(), "cores": processors()},
        "promise_seconds": SECONDS,
        "seconds": seconds,
    }
    table = markdown(result["host"], seconds)
    print(table)
    if not arguments.quick:
        write_atomic(RESULTS / "interrupts.json", json.dumps(result, indent=2).encode())
        write_atomic(RESULTS / "interrupts.md", table.encode())


def measured(desk: Desk, rounds: int) -> dict[str, list[float]]:
    """Seconds of each interruption, by what it interrupted."""
    with desk.typed("run", ADDRESS) as running:
        if running.process.wait(PATIENCE) != 0:
            raise SystemExit(running.said())
    stages: dict[str, Callable[[], AbstractContextManager[Running]]] = {
        "a build": lambda: desk.held_at(0, "run", ADDRESS, "--force"),
        "a tuning": lambda: desk.in_tuning("east"),
        "an evaluation": lambda: desk.held_at(3, "run", ADDRESS, "--force"),
        "a wait": lambda: _in_wait(desk),
    }
    seconds: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(rounds):
        for name, stage in stages.items():
            with stage() as running:
                seconds[name].append(running.interrupted(signal.SIGINT))
    return seconds


def markdown(host: dict[str, object], seconds: dict[str, list[float]]) -> str:
    """The table, with what it was measured on."""
    lines = [
        "# Seconds from Ctrl-C to the prompt",
        "",
        f"{host['cpu']} ({host['isa']}), {host['cores']} cores. `python -m benchmarks.interrupts`",
        "",
        "| in | median s | longest s | of | promised s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, each in seconds.items():
        lines.append(f"| {name} | {median(each):.2f} | {max(each):.2f} | {len(each)} | {SECONDS:.0f} |")
    return "\n".join(lines) + "\n"


@contextmanager
def _in_wait(desk: Desk) -> Iterator[Running]:
    with desk.in_wait() as (running, _):
        yield running


if __name__ == "__main__":
    main()

"""Whether the stages of a release keep to the processors of their process: CPU seconds beside wall seconds.

    python -m benchmarks.processors [--quick] [--rounds 3]

A network of the size of ResNet-50 is built, calibrated and evaluated, each in a process of its own, on all processors,
on one by affinity (as `taskset -c 0`), and on all with a quota of one (a real cgroup, where this user may make one; as
root with a writable /sys/fs/cgroup). CPU seconds over wall seconds are the processors that a stage kept busy: on one it
has to be 1.1 at most. Under a quota a process that has more threads than it pays for stands still for part of every
period, so its time is to be 1.1 times that on one processor at most. Imports are not timed.

Writes benchmarks/results/processors.json and processors.md, unless --quick. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from regiolect.host.cpu import cpu_fingerprint
from regiolect.host.lock import whole_machine
from regiolect.host.processors import allowed, processors, quota_files
from regiolect.integrity import write_atomic

RESULTS = Path(__file__).parent / "results"
BACKENDS = ("onnxruntime", "openvino")
STAGES = ("build", "calibration", "evaluation")
MOST_BUSY = MOST_SLOWER = 1.1

Figures = dict[str, float]
Bind = Callable[[], object]


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of few images; nothing is written")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, default=64)
    asked = parser.parse_args()
    if asked.stage:
        print(json.dumps(_staged(asked.stage, asked.folder, asked.images)))
        return
    images, rounds = (8, 1) if asked.quick else (asked.images, asked.rounds)
    with whole_machine():
        result = measured(images, rounds)
    table = markdown(result)
    print(table)
    if not asked.quick:
        write_atomic(RESULTS / "processors.json", json.dumps(result, indent=1).encode() + b"\n")
        write_atomic(RESULTS / "processors.md", table.encode())


def measured(images: int, rounds: int) -> dict[str, Any]:
    """Medians of every stage on each way of being bound, in turn."""
    from benchmarks.calibration_runs import prepare

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch, _paid_for_one() as quota:
        folder = Path(scratch)
        prepare(folder, [images])
        first = min(allowed())
        bounds: dict[str, Bind] = {"all": lambda: None, "affinity": lambda: os.sched_setaffinity(0, {first})}
        if quota is not None:
            bounds["quota"] = lambda: (quota / "cgroup.procs").write_text(str(os.getpid()))
        runs: dict[str, dict[str, list[Figures]]] = {stage: {bound: [] for bound in bounds} for stage in STAGES}
        for _ in range(rounds):
            for stage in STAGES:
                for bound, bind in bounds.items():
                    runs[stage][bound].append(_child(stage, folder, images, bind))
    return {
        "machine": cpu_fingerprint() | {"cores": str(processors())},
        "load": round(load, 1),
        "images": images,
        "rounds": rounds,
        "stages": {
            stage: {
                bound: {name: median(each[name] for each in found) for name in found[0]}
                for bound, found in of_stage.items()
            }
            for stage, of_stage in runs.items()
        },
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The table, with each limit beside what it limits."""
    machine = result["machine"]
    lines = [
        "# Processors that the stages of a release take",
        "",
        f"ResNet-50-sized network, {result['images']} images; {machine['cpu']} ({machine['isa']}), {machine['cores']} "
        f"processors, load {result['load']} before; medians of {result['rounds']} runs, each a process of its own. "
        f"Busy: CPU seconds over wall seconds, on one processor {MOST_BUSY} at most. Under a quota of one processor a "
        f"stage takes {MOST_SLOWER} times its time on one processor at most.",
        "",
        "| stage | bound | processors counted | s | busy | times one processor's |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for stage, bounds in result["stages"].items():
        one = bounds["affinity"]["seconds"]
        for bound in ("all", "affinity", "quota"):
            if bound not in bounds:
                lines.append(f"| {stage} | {bound} | not measured: no cgroup could be made here | | | |")
                continue
            seen = bounds[bound]
            times = f"{seen['seconds'] / one:.2f}" if bound == "quota" else ""
            lines.append(
                f"| {stage} | {bound} | {seen['processors']:.0f} | {seen['seconds']:.2f} | "
                f"{seen['cpu_seconds'] / seen['seconds']:.2f} | {times} |"
            )
    return "\n".join(lines) + "\n"


def _child(stage: str, folder: Path, images: int, bind: Bind) -> Figures:
    command = [sys.executable, "-m", "benchmarks.processors", "--stage", stage, "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--images", str(images)], stdout=subprocess.PIPE, text=True, check=True, preexec_fn=bind
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


@contextlib.contextmanager
def _paid_for_one() -> Iterator[Path | None]:
    """A cgroup with a quota of one processor; None where none can be made."""
    made = None
    for file in quota_files():
        folder = file.parent / f"regiolect-benchmark-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / file.name).write_text("100000 100000" if file.name == "cpu.max" else "100000")
        except OSError:
            if folder.is_dir():
                folder.rmdir()
            continue
        made = folder
        break
    try:
        yield made
    finally:
        if made is not None:
            made.rmdir()


def _staged(stage: str, folder: Path, images: int) -> Figures:
    """One stage, after all that it imports."""
    from benchmarks.calibration_runs import prepared
    from benchmarks.pairs import built
    from regiolect.calibrate import observe
    from regiolect.contracts import Precision
    from regiolect.data import model_inputs, read_samples
    from regiolect.engines.catalog import backend
    from regiolect.evaluate.reference import reference_outputs

    model, data, store = prepared(folder, images)
    for name in BACKENDS:
        backend(name).require()

    def engines() -> list[Any]:
        return [
            built(
                name,
                data.region,
                model,
                backend(name).recipe_here(Precision.FP32),
                None,
                store,
                precision=Precision.FP32,
            )
            for name in BACKENDS
        ]

    def evaluated() -> None:
        reference_outputs(model, inputs, store)
        for artifact in artifacts:
            backend(artifact.request.target.backend).load(artifact, store).run_many(inputs)

    if stage == "evaluation":
        samples = read_samples(store.path_of(data.dataset.gate.blob))
        inputs, artifacts = model_inputs(samples, model.preprocessing), engines()
    work: dict[str, Callable[[], object]] = {
        "build": engines,
        "calibration": lambda: observe(model, data, store),
        "evaluation": evaluated,
    }
    clock, used = time.perf_counter(), time.process_time()
    work[stage]()
    seconds, cpu = time.perf_counter() - clock, time.process_time() - used
    return {"seconds": seconds, "cpu_seconds": cpu, "processors": processors()}


if __name__ == "__main__":
    main()

"""What calibrating a network of ResNet-50's size costs, beside the forward pass alone and beside others' quantizers.

    python -m benchmarks.calibration                    all of it: 3 rounds, most of an hour on two cores
    python -m benchmarks.calibration --quick            one round on 16 images; prints, and writes nothing
    python -m benchmarks.calibration --rivals nncf      only some of the rivals; "" for none

Everybody gets the same ONNX file and the same images, and writes an INT8 model; every run is a process of its own, in
turn, so that a slow minute of the machine hits all alike. Imports are not timed. Rivals run in environments that are
made from benchmarks/rivals/*.txt in a cache folder; one that cannot be installed is in the table with the reason.
Writes benchmarks/results/calibration.json and calibration.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regiolect.host.cpu import cpu_fingerprint
from regiolect.host.lock import whole_machine
from regiolect.host.processors import processors
from regiolect.integrity import write_atomic

HERE = Path(__file__).parent
RESULTS = HERE / "results"
ROOT = HERE.parent
TIMEOUT = 3600.0


@dataclass(frozen=True)
class Rival:
    """Somebody else's quantizer: its environment, and what is promised of ours against it."""

    name: str
    title: str
    requirements: str
    package: str
    promised: float


RIVALS = (
    Rival("onnxruntime", "ONNX Runtime `quantize_static`, Entropy as it comes", "runtimes", "onnxruntime", 4.0),
    Rival("onnxruntime-2048", "ONNX Runtime `quantize_static`, Entropy, 2048 bins", "runtimes", "onnxruntime", 4.0),
    Rival("nncf", "NNCF on OpenVINO, default preset", "runtimes", "nncf", 1.5),
    Rival("modelopt", "ModelOpt, INT8, entropy, CPU", "modelopt", "nvidia-modelopt", 4.0),
)
MOST_OVER_FORWARD = 2.5
MOST_MB = 1200.0
MOST_GROWTH = 0.10


@dataclass
class Case:
    """One line of the table: what was run, and what it told in each round."""

    name: str
    title: str
    count: int
    command: list[str]
    runs: list[dict[str, float]] = field(default_factory=list)
    failure: str | None = None

    def run(self) -> None:
        """Run it once; a failure is kept, and it is not run again."""
        if self.failure is not None:
            return
        try:
            with whole_machine():
                done = subprocess.run(
                    self.command,
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT,
                    check=False,
                    env=_environment(),
                )
        except subprocess.TimeoutExpired:
            self.failure = f"stopped after {TIMEOUT:g} s"
            return
        if done.returncode:
            self.failure = _last_line(done.stderr) or f"exit status {done.returncode}"
        else:
            self.runs.append(json.loads(done.stdout.splitlines()[-1]))

    def median(self, what: str) -> float:
        """Over the rounds."""
        return statistics.median(run[what] for run in self.runs)


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round on few images; nothing is written")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is run")
    parser.add_argument("--rivals", default=",".join(rival.name for rival in RIVALS), help="names, by commas")
    parser.add_argument("--cache", type=Path, default=_cache(), help="folder for the rivals' environments")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for calibration.json and calibration.md")
    arguments = parser.parse_args()
    counts = (16, 32, 64) if arguments.quick else (64, 128, 512)
    chosen = [rival for rival in RIVALS if rival.name in arguments.rivals.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        cases = list(_cases(Path(folder), arguments.cache, counts, chosen))
        for number in range(1 if arguments.quick else arguments.rounds):
            for case in cases:
                print(f"round {number + 1}: {case.title}, {case.count} images", file=sys.stderr, flush=True)
                case.run()
    result = as_result(cases, counts, chosen)
    print(as_table(result))
    if not arguments.quick:
        write_atomic(arguments.output / "calibration.json", (json.dumps(result, indent=2) + "\n").encode())
        write_atomic(arguments.output / "calibration.md", as_table(result).encode())


def _cases(folder: Path, cache: Path, counts: Sequence[int], rivals: Sequence[Rival]) -> Iterator[Case]:
    own = [sys.executable, "-m", "benchmarks.calibration_runs"]
    subprocess.run([*own, "prepare", str(folder), *map(str, counts)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    first = counts[0]
    yield Case("forward", "forward pass alone, ONNX Runtime", first, [*own, "forward", str(folder), str(first)])
    yield Case("regiolect", "Regiolect, entropy", first, [*own, "regiolect", str(folder), str(first)])
    title = "Regiolect, entropy, and every tensor's range for FP16"
    yield Case("ranges", title, first, [*own, "ranges", str(folder), str(first)])
    for rival in rivals:
        case = Case(rival.name, rival.title, first, [])
        try:
            python = environment(HERE / "rivals" / f"{rival.requirements}.txt", cache)
            case.title = f"{rival.title} ({rival.package} {_version(python, rival.package)})"
            script = str(HERE / "rivals" / "run.py")
            files = [str(folder / "model.onnx"), str(folder / "images.npy"), str(first), str(folder / "out.onnx")]
            case.command = [str(python), script, rival.name, *files]
        except (subprocess.SubprocessError, OSError) as error:
            case.failure = f"not installed: {_last_line(getattr(error, 'stderr', None) or str(error))}"
        yield case
    for count in counts[1:]:
        yield Case("regiolect", "Regiolect, entropy", count, [*own, "regiolect", str(folder), str(count)])


def environment(requirements: Path, cache: Path) -> Path:
    """The Python of an environment with what `requirements` asks for; made once for the same file.

    Raises:
        CalledProcessError: pip cannot install it; holds what pip said.
        OSError: the folder cannot be written.
    """
    key = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = cache / f"{requirements.stem}-{key}"
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = home / "ready"
    if not ready.exists():
        print(f"installing {requirements.name} into {home}", file=sys.stderr, flush=True)
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
        subprocess.run(install, check=True, capture_output=True, text=True, timeout=TIMEOUT)
        ready.touch()
    return python


def as_result(cases: Sequence[Case], counts: Sequence[int], rivals: Sequence[Rival]) -> dict[str, Any]:
    """Rows, medians over the rounds, and what is promised beside what was measured."""
    ours = {case.count: case for case in cases if case.name == "regiolect" and case.runs}
    forward = next((case for case in cases if case.name == "forward" and case.runs), None)
    first = ours.get(counts[0])
    rows = [_row(case, forward, first) for case in cases]
    result: dict[str, Any] = {
        "cpu": cpu_fingerprint(),
        "cores": processors(),
        "network": "ResNet-50-sized, random weights, 3x224x224",
        "rounds": max((len(case.runs) for case in cases), default=0),
        "rows": rows,
        "promises": [],
    }
    if forward is not None and first is not None:
        result["calibration_over_forward"] = _ratio(first.median("calibration_seconds"), forward.median("seconds"))
        result["another_method_seconds"] = round(first.median("another_method_seconds"), 3)
        result["promises"] = list(_promises(result, rows, ours, rivals))
    return result


def _row(case: Case, forward: Case | None, ours: Case | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": case.name, "title": case.title, "images": case.count, "failure": case.failure}
    if case.runs:
        seconds = case.median("seconds")
        row |= {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(case.median("cpu_seconds"), 2),
            "peak_mb": round(case.median("peak_mb")),
            "runs": case.runs,
        }
        if forward is not None and case.count == forward.count:
            row["over_forward"] = _ratio(seconds, forward.median("seconds"))
        if ours is not None and case.count == ours.count and case.name not in ("forward", "regiolect", "ranges"):
            row["ours_faster_by"] = _ratio(seconds, ours.median("seconds"))
    return row


def _promises(
    result: dict[str, Any], rows: Sequence[dict[str, Any]], ours: dict[int, Case], rivals: Sequence[Rival]
) -> Iterator[dict[str, Any]]:
    def promise(what: str, measured: float, limit: float, *, least: bool) -> dict[str, Any]:
        kept = measured >= limit if least else measured <= limit
        return {"what": what, "measured": measured, "at_least" if least else "at_most": limit, "kept": kept}

    yield promise(
        "calibration over the forward pass alone", result["calibration_over_forward"], MOST_OVER_FORWARD, least=False
    )
    for rival in rivals:
        for row in rows:
            if row["name"] == rival.name and "ours_faster_by" in row:
                yield promise(f"faster than {rival.title}", row["ours_faster_by"], rival.promised, least=True)
    peaks = {count: case.median("peak_mb") for count, case in ours.items()}
    yield promise(f"peak MB, {'/'.join(map(str, peaks))} images", round(max(peaks.values())), MOST_MB, least=False)
    growth = round(max(peaks.values()) / min(peaks.values()) - 1, 3)
    yield promise(f"growth of the peak from {min(peaks)} to {max(peaks)} images", growth, MOST_GROWTH, least=False)


def as_table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    cpu = result["cpu"]
    rounds = "1 round" if result["rounds"] == 1 else f"{result['rounds']} rounds"
    lines = [
        f"{result['network']}; {cpu['cpu']} ({cpu['isa']}), {result['cores']} cores; medians of {rounds}, every run a "
        "process of its own, in turn. Seconds are from the ONNX file and the images to the INT8 model, those of all "
        "cores together beside them; imports are not timed.",
        "",
        "| | images | s | CPU s | over forward | Regiolect is faster by | peak MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        if row["failure"] is not None:
            lines.append(f"| {row['title']} | {row['images']} | {row['failure']} | | | | |")
            continue
        ratios = [f"{row[what]}x" if what in row else "" for what in ("over_forward", "ours_faster_by")]
        cells = [row["title"], row["images"], row["seconds"], row["cpu_seconds"], *ratios, row["peak_mb"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    if result["promises"]:
        lines += [
            "",
            f"Regiolect's calibration without writing the INT8 model takes {result['calibration_over_forward']}x the "
            f"forward pass alone; thresholds by another method from the same histograms take "
            f"{result['another_method_seconds']} s.",
            "",
            "| promised | measured | limit | |",
            "| --- | --- | --- | --- |",
        ]
    for promise in result["promises"]:
        limit = f"at least {promise['at_least']}" if "at_least" in promise else f"at most {promise['at_most']}"
        lines.append(
            f"| {promise['what']} | {promise['measured']} | {limit} | {'kept' if promise['kept'] else 'NOT KEPT'} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(one: float, other: float) -> float:
    return round(one / other, 2)


def _version(python: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _environment() -> dict[str, str]:
    # Telemetry would be counted as work.
    return {**os.environ, "DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore"}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200].replace("|", "/") if lines else ""


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "regiolect" / "benchmarks"


if __name__ == "__main__":
    main()

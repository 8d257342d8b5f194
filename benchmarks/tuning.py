"""The tuner's choice against an exhaustive search: is it within 3 % of the best, and never slower than the default?

    python -m benchmarks.tuning [--minutes 3] [--seconds 10] [--networks fashion,resnet50]

Each backend's INT8 and FP32 engine of the example `fashion`, and of a network of ResNet-50's size, is tuned for latency
and for throughput, with Regiolect's own tuner and within `--minutes`. Then every candidate of the same grid, none given
up, is measured for `--seconds` each, in turn and in changing order, and what the tuner chose is looked up there. So the
judge has other measurements than the tuner, and more of them. Every other pass says which candidate is the best, the
rest how long it takes: the best of many by the same measurements would look better than it is. The judge's own noise is
told: the default against itself. Writes benchmarks/results/tuning.json and tuning.md after each engine.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from benchmarks import resnet50
from benchmarks.pairs import engine
from benchmarks.unchecked import samples_of, validated
from regiolect.calibrate import calibrate
from regiolect.contracts import (
    BatchProfile,
    CalibrationMethod,
    DroppedCandidate,
    EngineArtifact,
    OperatingPoint,
    Performance,
    Precision,
    TuningCandidate,
)
from regiolect.engines.catalog import backend
from regiolect.export import export_model
from regiolect.integrity import digest_of, write_atomic
from regiolect.machine import cores, cpu_fingerprint, whole_machine
from regiolect.storage import LocalStore
from regiolect.tune.bench import Bench
from regiolect.tune.candidates import batch_sizes
from regiolect.tune.run import tune_engine
from regiolect.tune.words import settings

REGION = "bench"
BACKENDS = ("openvino", "onnxruntime")
PROFILES = {"fashion": BatchProfile(min=1, opt=8, max=64), "resnet50": BatchProfile(min=1, opt=4, max=8)}
# What the project promises: time of the choice over that of the best of the grid, and over that of the default.
WITHIN = 1.03
RESULTS = Path(__file__).parent / "results"
_LEAST_PASSES = 12
Arrays = Mapping[str, NDArray[Any]]


class Row(TypedDict):
    """One engine tuned for one aim. Ratios are of the exhaustive search; 1 is as good, more is worse."""

    network: str
    backend: str
    precision: str
    tuned_for: str
    chosen: str
    best: str
    over_best: float
    over_default: float
    noise: float
    default_ms: float
    chosen_ms: float
    tuned_seconds: float
    points: int
    candidates: int


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="the tuner's time for one engine and aim")
    parser.add_argument("--seconds", type=float, default=10.0, help="the search's time for each candidate")
    parser.add_argument("--networks", default="fashion,resnet50", help="networks, separated by commas")
    parser.add_argument("--backends", default=",".join(BACKENDS), help="backends, separated by commas")
    asked = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for network in asked.networks.split(","):
            for name in asked.backends.split(","):
                for row in measured(network, name, LocalStore(Path(folder)), asked.minutes, asked.seconds):
                    rows.append(row)
                    write(rows, asked)
    print((RESULTS / "tuning.md").read_text())


def write(rows: Sequence[Row], asked: argparse.Namespace) -> None:
    """Write the rows as JSON and as Markdown."""
    result = {
        "cpu": cpu_fingerprint(),
        "cores": cores(),
        "minutes": asked.minutes,
        "seconds_per_candidate": asked.seconds,
        "within": WITHIN,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    write_atomic(RESULTS / "tuning.json", (json.dumps(result, indent=2) + "\n").encode())
    write_atomic(RESULTS / "tuning.md", as_table(result).encode())


def measured(network: str, name: str, store: LocalStore, minutes: float, seconds: float) -> Iterator[Row]:
    """Both aims of each precision of one network through one backend."""
    for precision, artifact, inputs in engines(network, name, store):
        searched = Search(name, artifact, inputs, store)
        for aim in Performance:
            started = time.perf_counter()
            tuned = tune_engine(
                backend(name), artifact, inputs, store, minutes=minutes, tuned_for=aim, force=True, say=print
            )
            took = time.perf_counter() - started
            # One search serves both aims: it measures everything.
            to_choose, found = searched.medians(seconds)
            counting = [place for place in found if _counts(searched.candidates[place], aim, artifact)]
            best = min(counting, key=lambda place: _cost(searched.candidates[place], to_choose[place], aim))
            cost = {place: _cost(searched.candidates[place], found[place], aim) for place in counting}
            chosen, default = searched.place_of(tuned.point), 0
            row = Row(
                network=network,
                backend=name,
                precision=precision.value,
                tuned_for=aim.value,
                chosen=told(searched.candidates[chosen]),
                best=told(searched.candidates[best]),
                over_best=round(cost[chosen] / cost[best], 4),
                over_default=round(cost[chosen] / cost[default], 4),
                noise=round(abs(found[1] / found[0] - 1), 4),
                default_ms=found[default],
                chosen_ms=found[chosen],
                tuned_seconds=round(took, 1),
                points=len(tuned.points),
                candidates=len(searched.candidates),
            )
            print(row)
            yield row


def engines(network: str, name: str, store: LocalStore) -> Iterator[tuple[Precision, EngineArtifact, Arrays]]:
    """A network's FP32 and INT8 engine, with samples to run them on."""
    rng = np.random.default_rng(0)
    if network == "fashion":
        from examples.fashion import MODEL as spec  # noqa: N811 - an instance that the example names like a constant

        images = rng.random((64, *spec.inputs[0].shape[1:]), np.float32)
    else:
        spec = resnet50.spec()
        images = rng.random((16, 3, 224, 224), np.float32)
    inputs = {spec.inputs[0].name: images}
    samples = samples_of(REGION, inputs)
    model = export_model(spec, store, samples)
    table = calibrate(model, validated(samples, store), CalibrationMethod.ENTROPY, store)
    for precision, ranges in ((Precision.FP32, None), (Precision.INT8, table)):
        built = engine(name, REGION, model, backend(name).recipe(precision), ranges, store).artifact
        profile = PROFILES[network]
        request = built.request.model_copy(
            update={"profile": profile, "build_key": digest_of({"network": network, "of": built.request.build_key})}
        )
        yield precision, backend(name).build(request, store, calibration=built.calibration), inputs


class Search:
    """Every candidate of the tuner's own grid, measured for equally long, none given up."""

    def __init__(self, name: str, artifact: EngineArtifact, inputs: Arrays, store: LocalStore) -> None:
        chosen, request = backend(name), artifact.request
        self._bench = Bench(lambda configuration: chosen.load(artifact, store, configuration), inputs)
        offered = chosen.configurations(request)
        self.candidates, _ = self._bench.candidates(offered, batch_sizes(request.profile), request.profile.opt)
        self._found: list[dict[int, float]] = []

    def medians(self, seconds: float) -> Sequence[dict[int, float]]:
        """Milliseconds of a round by candidate, each measured for about `seconds`: by even passes, and by odd ones.
        Measured once.

        Taken relative to the default in the same pass, as the machine may become slower in between.
        """
        if self._found:
            return self._found
        every = range(len(self.candidates))
        # What answers otherwise than the default is no choice at all.
        gone = self._bench.warm_up(self.candidates, every, 0.0)
        places = [place for place in every if not any(_is(self.candidates[place], dropped) for dropped in gone)]
        taken: dict[int, list[float]] = {place: [] for place in places}
        spent, passes = 0.0, 0
        with whole_machine():
            while passes < _LEAST_PASSES or spent < seconds * len(places):
                random.Random(-passes - 1).shuffle(places)  # noqa: S311 - an order, not a secret
                started = time.perf_counter()
                for place in places:
                    piece = self._bench.slice(place, self.candidates[place], 9)
                    taken[place].append(float(np.median(piece.rounds_ms)))
                spent, passes = spent + time.perf_counter() - started, passes + 1
        for half in (slice(0, None, 2), slice(1, None, 2)):
            whole = float(np.median(taken[0][half]))
            self._found.append(
                {
                    place: round(whole * float(np.median(np.divide(rounds[half], taken[0][half]))), 4)
                    for place, rounds in taken.items()
                }
            )
        return self._found

    def place_of(self, point: OperatingPoint) -> int:
        """Where a point stands among the candidates."""
        return next(
            place
            for place, each in enumerate(self.candidates)
            if (each.batch, dict(each.configuration)) == (point.batch, dict(point.configuration)) and not each.control
        )


def _is(candidate: TuningCandidate, dropped: DroppedCandidate) -> bool:
    return (candidate.batch, candidate.configuration) == (dropped.batch, dropped.configuration)


def _counts(candidate: TuningCandidate, aim: Performance, artifact: EngineArtifact) -> bool:
    return not candidate.control and (aim is Performance.THROUGHPUT or candidate.batch == artifact.request.profile.opt)


def _cost(candidate: TuningCandidate, ms: float, aim: Performance) -> float:
    return ms if aim is Performance.LATENCY else ms / (candidate.batch * candidate.at_once)


def told(candidate: TuningCandidate) -> str:
    """A candidate in words."""
    return f"batch {candidate.batch} x {candidate.at_once}, {settings(candidate.configuration)}"


def as_table(result: Mapping[str, Any]) -> str:
    """The rows as Markdown."""
    rows: Sequence[Row] = result["rows"]
    cpu = result["cpu"]
    lines = [
        f"The tuner with {result['minutes']:g} minutes against every candidate measured for about "
        f"{result['seconds_per_candidate']:g} s, {cpu['cpu']} ({cpu['isa']}), {result['cores']} cores. Time of the "
        f"choice over that of the best and of the default, both as the search measured them; the best is promised "
        f"within {WITHIN:g}, the default at most 1, each within the search's own noise.",
        "",
        "| network | backend | graph | tuned for | chosen | best of the search | over best | over default | noise |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['network']} | {row['backend']} | {row['precision']} | {row['tuned_for']} | {row['chosen']} | "
        f"{row['best']} | {row['over_best']:.3f} | {row['over_default']:.3f} | {row['noise']:.1%} |"
        for row in rows
    ]
    worst = max(row["over_best"] for row in rows), max(row["over_default"] for row in rows)
    lines += ["", f"Worst: {worst[0]:.3f} over the best, {worst[1]:.3f} over the default."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

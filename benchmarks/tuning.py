"""The tuner's choice against an exhaustive search: is it within 3 % of the best, and never slower than the default?

    python -m benchmarks.tuning [--minutes 2] [--seconds 1.5] [--networks fashion,resnet50]

Each backend's INT8 and FP32 engine of the example `fashion`, and of a network of ResNet-50's size, is tuned for latency
and for throughput, with Regiolect's own tuner and within `--minutes`. Every candidate of the same grid, none given up,
is loaded once and measured for `--seconds`, in turn and in changing order: that says which is the best.

It does not judge: the best of many by the same measurements looks better than it is, and two loads of one configuration
differ by where their memory lies. A duel judges: the default, the same once more, the choice and the best are loaded
anew five times, in changing order, and each time measured in turn. A ratio is the median over loads of the ratio of
medians; the noise is by how much that of the default to itself is off 1. Nothing is measured against itself under two
names: where the choice is the best, or the default, their ratio is 1 because they are one. The best may turn out to be
slower than the choice; their ratio is then below 1.

Writes benchmarks/results/tuning.json and tuning.md after each row. Networks that are not asked for keep the rows of an
earlier run with the same settings on such a machine.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
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
from regiolect.host.cpu import cpu_fingerprint
from regiolect.host.lock import whole_machine
from regiolect.host.processors import processors
from regiolect.integrity import digest_of, write_atomic
from regiolect.storage import LocalStore
from regiolect.tune.bench import Bench
from regiolect.tune.candidates import batch_sizes
from regiolect.tune.figures import CONTROL, DEFAULT
from regiolect.tune.run import tune_engine
from regiolect.tune.words import settings

REGION = "bench"
BACKENDS = ("openvino", "onnxruntime")
PROFILES = {"fashion": BatchProfile(min=1, opt=8, max=16), "resnet50": BatchProfile(min=1, opt=4, max=8)}
# What the project promises: time of the choice over that of the best of the grid, and over that of the default.
WITHIN = 1.03
RESULTS = Path(__file__).parent / "results"
_LEAST_PASSES = 8
# The number of a pass whose slices last about 0.12 s (`Bench.slice`).
_SLICE = 2
# Each contender of a duel is loaded so often, and each time measured for so long in pieces, of which there are enough
# for a median.
LOADS, _DUEL_SECONDS, _PIECE_SECONDS, _LEAST_PIECES = 5, 0.8, 0.1, 5
Arrays = Mapping[str, NDArray[Any]]


class Row(TypedDict):
    """One engine tuned for one aim. Ratios and times are of the duel; 1 is as good, more is worse."""

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
    parser.add_argument("--minutes", type=float, default=2.0, help="the tuner's time for one engine and aim")
    parser.add_argument("--seconds", type=float, default=1.5, help="the search's time for each candidate")
    parser.add_argument("--networks", default="fashion,resnet50", help="networks, separated by commas")
    parser.add_argument("--backends", default=",".join(BACKENDS), help="backends, separated by commas")
    asked = parser.parse_args()
    rows = kept(asked)
    with tempfile.TemporaryDirectory() as folder:
        for network in asked.networks.split(","):
            for name in asked.backends.split(","):
                for row in measured(network, name, LocalStore(Path(folder)), asked.minutes, asked.seconds):
                    rows.append(row)
                    write(rows, asked)
    print((RESULTS / "tuning.md").read_text())


def conditions(asked: argparse.Namespace) -> dict[str, Any]:
    """What rows must share to stand in one table."""
    return {
        "cpu": dict(cpu_fingerprint()),
        "cores": processors(),
        "minutes": asked.minutes,
        "seconds_per_candidate": asked.seconds,
        "loads": LOADS,
        "within": WITHIN,
    }


def kept(asked: argparse.Namespace) -> list[Row]:
    """The rows that are there of other networks, if they were measured under the same conditions."""
    found = RESULTS / "tuning.json"
    if not found.exists():
        return []
    there = json.loads(found.read_text())
    rows: list[Row] = there.pop("rows")
    if there != conditions(asked):
        return []
    return [row for row in rows if row["network"] not in asked.networks.split(",")]


def write(rows: Sequence[Row], asked: argparse.Namespace) -> None:
    """Write the rows as JSON and as Markdown."""
    result = {**conditions(asked), "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    write_atomic(RESULTS / "tuning.json", (json.dumps(result, indent=2) + "\n").encode())
    write_atomic(RESULTS / "tuning.md", as_table(result).encode())


def measured(network: str, name: str, store: LocalStore, minutes: float, seconds: float) -> Iterator[Row]:
    """Both aims of each precision of one network through one backend."""
    for precision, artifact, inputs in engines(network, name, store):
        say(f"{network} {name} {precision.value}: every candidate")
        candidates, found = searched(name, artifact, inputs, store, seconds)
        for aim in Performance:
            say(f"{network} {name} {precision.value}: {len(candidates)} candidates searched; tuning for {aim.value}")
            started = time.perf_counter()
            tuned = tune_engine(
                backend(name), artifact, inputs, store, minutes=minutes, tuned_for=aim, force=True, say=say
            )
            took = time.perf_counter() - started
            # One search serves both aims: it measures everything.
            counting = [place for place in found if _counts(candidates[place], aim, artifact)]
            best = min(counting, key=lambda place: _cost(candidates[place], found[place], aim))
            chosen = place_of(tuned.point, candidates)
            contenders = {place: candidates[place] for place in sorted({DEFAULT, CONTROL, chosen, best})}
            judged = Duel(name, artifact, inputs, store, contenders, aim)
            row = Row(
                network=network,
                backend=name,
                precision=precision.value,
                tuned_for=aim.value,
                chosen=told(candidates[chosen]),
                best=told(candidates[best]),
                over_best=round(judged.ratio(chosen, best), 4),
                over_default=round(judged.ratio(chosen, DEFAULT), 4),
                noise=round(abs(judged.ratio(CONTROL, DEFAULT) - 1), 4),
                default_ms=judged.ms(DEFAULT),
                chosen_ms=judged.ms(chosen),
                tuned_seconds=round(took, 1),
                points=len(tuned.points),
                candidates=len(candidates),
            )
            say(str(row))
            yield row


def engines(network: str, name: str, store: LocalStore) -> Iterator[tuple[Precision, EngineArtifact, Arrays]]:
    """A network's FP32 and INT8 engine, with samples to run them on."""
    rng = np.random.default_rng(0)
    if network == "fashion":
        from examples.fashion import MODEL as spec  # noqa: N811 - an instance that the example names like a constant

        images = rng.random((64, *map(int, spec.inputs[0].shape[1:])), np.float32)
    else:
        spec = resnet50.spec()
        images = rng.random((16, 3, 224, 224), np.float32)
    inputs = {spec.inputs[0].name: images}
    samples = samples_of(REGION, inputs)
    model = export_model(spec, store, samples)
    table = calibrate(model, validated(samples, store), CalibrationMethod.ENTROPY, store)
    for precision, ranges in ((Precision.FP32, None), (Precision.INT8, table)):
        built = engine(name, REGION, model, backend(name).recipe_here(precision), ranges, store).artifact
        profile = PROFILES[network]
        request = built.request.model_copy(
            update={"profile": profile, "build_key": digest_of({"network": network, "of": built.request.build_key})}
        )
        yield precision, backend(name).build(request, store, calibration=built.calibration), inputs


def searched(
    name: str, artifact: EngineArtifact, inputs: Arrays, store: LocalStore, seconds: float
) -> tuple[Sequence[TuningCandidate], dict[int, float]]:
    """Every candidate of the tuner's own grid, and milliseconds of a round by its place, each measured for about
    `seconds`, none given up.

    Taken relative to the default in the same pass, as the machine may become slower in between.
    """
    chosen, request = backend(name), artifact.request
    bench = Bench(lambda configuration: chosen.load(artifact, store, configuration), inputs)
    candidates, _ = bench.candidates(chosen.configurations(request), batch_sizes(request.profile), request.profile.opt)
    every = range(len(candidates))
    # What answers otherwise than the default is no choice at all.
    gone = bench.warm_up(candidates, every, 0.0)
    places = [place for place in every if not any(_is(candidates[place], dropped) for dropped in gone)]
    taken: dict[int, list[float]] = {place: [] for place in places}
    spent, passes = 0.0, 0
    with whole_machine():
        while passes < _LEAST_PASSES or spent < seconds * len(places):
            random.Random(passes).shuffle(places)  # noqa: S311 - an order, not a secret
            started = time.perf_counter()
            for place in places:
                piece = bench.slice(place, candidates[place], _SLICE)
                taken[place].append(float(np.median(piece.rounds_ms)))
            spent, passes = spent + time.perf_counter() - started, passes + 1
    whole = float(np.median(taken[DEFAULT]))
    found = {place: whole * float(np.median(np.divide(rounds, taken[DEFAULT]))) for place, rounds in taken.items()}
    return candidates, found


def place_of(point: OperatingPoint, candidates: Sequence[TuningCandidate]) -> int:
    """Where a point stands among the candidates."""
    return next(
        place
        for place, each in enumerate(candidates)
        if (each.batch, dict(each.configuration)) == (point.batch, dict(point.configuration)) and not each.control
    )


class Duel:
    """A few candidates, each loaded anew several times, and measured in turn each time.

    Args:
        contenders: candidates by their places.
        aim: a round's time counts for latency, that of one sample for throughput.
    """

    def __init__(
        self,
        name: str,
        artifact: EngineArtifact,
        inputs: Arrays,
        store: LocalStore,
        contenders: Mapping[int, TuningCandidate],
        aim: Performance,
    ) -> None:
        self._contenders, self._aim = contenders, aim
        self._medians: list[dict[int, float]] = []
        samples = len(next(iter(inputs.values())))
        for number in range(LOADS):
            order, places = random.Random(number), list(contenders)  # noqa: S311 - an order, not a secret
            order.shuffle(places)
            run: dict[int, Callable[[], object]] = {}
            for place in places:
                each = contenders[place]
                loaded = backend(name).load(artifact, store, each.configuration)
                index = np.arange(each.batch * loaded.at_once) % samples
                a_round = {key: array[index] for key, array in inputs.items()}
                run[place] = partial(loaded.run_many, a_round, each.batch)
            with whole_machine():
                self._medians.append(_in_turn(run, order))

    def ratio(self, place: int, to: int) -> float:
        """Median over loads of what one takes by what the other does; 1 if they are the same."""
        if place == to:
            return 1.0
        one, other = (
            [_cost(self._contenders[each], found[each], self._aim) for found in self._medians] for each in (place, to)
        )
        return float(np.median(np.divide(one, other)))

    def ms(self, place: int) -> float:
        """Of a round, median over loads."""
        return round(float(np.median([found[place] for found in self._medians])), 4)


def _in_turn(run: Mapping[int, Callable[[], object]], order: random.Random) -> dict[int, float]:
    """Median milliseconds of each, in pieces that take turns; a piece's first rounds, with others' data in caches, do
    not count."""
    taken: dict[int, list[float]] = {place: [] for place in run}
    places = list(run)
    for place in places:
        for _ in range(2):
            _ms(run[place])
    end, pieces = time.perf_counter() + _DUEL_SECONDS * len(places), 0
    while pieces < _LEAST_PIECES or time.perf_counter() < end:
        order.shuffle(places)
        pieces += 1
        for place in places:
            first = _ms(run[place])
            rounds = max(1, int(_PIECE_SECONDS * 1e3 / first))
            taken[place].append(float(np.median([_ms(run[place]) for _ in range(rounds)])))
    return {place: float(np.median(each)) for place, each in taken.items()}


def _ms(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3


def say(told: str) -> None:
    """Tell at once how far it is."""
    print(told, flush=True)


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
        f"choice over that of the search's best and of the default, each loaded anew {result['loads']} times and "
        f"measured in turn; 1.000 also where they are the same. The best is promised within {WITHIN:g}, the default at "
        f"most 1, each within the noise: what the default, loaded as often once more, differs from itself by.",
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

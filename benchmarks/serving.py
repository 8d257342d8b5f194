"""Whether switching by load keeps up with the best fixed operating point at every load, and what is answered past it.

    python -m benchmarks.serving [--seconds 15] [--rounds 3] [--minutes 2] [--size 128]

MLCommons' load generator asks in its Server scenario: requests of one sample at random times, Poisson, that do not wait
for answers. The engine is INT8 through OpenVINO, of a network of ResNet-50's depth and width on smaller images, so that
the generator takes little of the cores. Regiolect tunes it; then each of its operating points by itself, and all of
them with switching, are driven at shares of the capacity, which is the most that any fixed point answers while nobody
is refused. Everything is in one run: in each round all of them in turn, in changing order, on the same arrivals.
Writes benchmarks/results/serving.json and serving.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import mlperf_loadgen as loadgen
import numpy as np
from numpy.typing import NDArray

from benchmarks import pairs, resnet50
from benchmarks.unchecked import samples_of, validated
from regiolect.calibrate import calibrate
from regiolect.contracts import CalibrationMethod, Performance, Precision, Preprocessing, TensorSpec
from regiolect.engines.catalog import backend
from regiolect.errors import Overloaded
from regiolect.export import export_model
from regiolect.host.cpu import cpu_fingerprint
from regiolect.host.lock import whole_machine
from regiolect.integrity import write_atomic
from regiolect.serving.adaptive import AdaptiveModel
from regiolect.serving.forecast import Point
from regiolect.serving.opening import served_points, ways_of
from regiolect.storage import LocalStore
from regiolect.tune.run import tune_engine

REGION = "bench"
LOADS = (0.2, 0.5, 0.8, 0.95)
PAST = (1.2, 2.0)
PATIENCE, ENDLESS = 1.0, 1e6
LIMIT, GOODPUT = 1.1, 0.95
SWITCHING = "switching"
RESULTS = Path(__file__).parent / "results"
Open = Callable[..., AdaptiveModel]


@dataclass
class Run:
    """What one drive of the generator saw.

    Attributes:
        p99_ms, p50_ms: as the generator's log tells them; a request that was refused counts as long as the patience.
        latencies: seconds from the generator's call to the answer, with the time of the answer.
        shed: requests that were refused.
        last: when the last request was made.
    """

    first: float = 0.0
    last: float = 0.0
    shed: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    switches: int = 0
    points: dict[int, int] = field(default_factory=dict)
    latencies: list[tuple[float, float]] = field(default_factory=list)

    def goodput(self, patience: float = PATIENCE) -> float:
        """Answers a second within the patience, once the queue is as long as it will be, until the last request."""
        begin = self.first + 2 * PATIENCE
        good = [at for at, latency in self.latencies if begin <= at <= self.last and latency <= patience]
        return len(good) / (self.last - begin)


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="of one drive")
    parser.add_argument("--rounds", type=int, default=3, help="drives of everything at each load")
    parser.add_argument("--minutes", type=float, default=2.0, help="that tuning may take")
    parser.add_argument("--size", type=int, default=128, help="of the images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure_all(Path(folder), arguments)
    cpu = cpu_fingerprint()
    RESULTS.mkdir(exist_ok=True)
    write_atomic(RESULTS / "serving.json", json.dumps({"cpu": cpu, **found}, indent=2).encode())
    table = as_table(cpu, found)
    write_atomic(RESULTS / "serving.md", table.encode())
    print(table)


def measure_all(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, in one process."""
    store = LocalStore(folder)
    size = arguments.size
    images = np.random.default_rng(0).random((64, 3, size, size), np.float32)
    spec = dataclasses.replace(resnet50.spec(), inputs=(TensorSpec(name="image", shape=("batch", 3, size, size)),))
    samples = samples_of(REGION, {"image": images[:16]})
    model = export_model(spec, store, samples)
    table = calibrate(model, validated(samples, store), CalibrationMethod.ENTROPY, store)
    openvino = backend("openvino")
    artifact = pairs.engine("openvino", REGION, model, openvino.recipe_here(Precision.INT8), table, store).artifact
    tuned = tune_engine(
        openvino, artifact, {"image": images}, store, minutes=arguments.minutes, tuned_for=Performance.LATENCY
    )
    ways = ways_of(tuned)
    engines = [openvino.load(artifact, store, way.configuration) for way in ways]
    with whole_machine():
        points = served_points(engines, ways, Preprocessing())
        show(f"points: {[(point.name, round(point.rate)) for point in points]}")

        def opened(some: Sequence[Point], patience: float = PATIENCE) -> AdaptiveModel:
            return AdaptiveModel(engines, Preprocessing(), some, patience)

        fixed = list(opened(points).points)
        return drive_all(opened, fixed, images, folder, arguments.seconds, arguments.rounds) | {"size": size}


def drive_all(
    opened: Open, fixed: Sequence[Point], images: NDArray[np.float32], folder: Path, seconds: float, rounds: int
) -> dict[str, Any]:
    """Capacities first, then every load in every round."""
    drive = partial(driven, images=images, folder=folder, seconds=seconds)
    found: dict[str, list[float]] = {point.name: [] for point in fixed}
    for number in range(rounds):
        for point in turned(fixed, number):
            # Nobody is refused: what it gives at most, whatever any rule of admission would make of it.
            run = drive(opened([point], ENDLESS), 1.2 * point.rate, seed=number)
            found[point.name].append(run.goodput(ENDLESS))
    capacities = {name: statistics.median(rates) for name, rates in found.items()}
    capacity = max(capacities.values())
    show(f"capacities: {capacities}")
    share = generators_share(capacity, images, folder)
    sides: dict[str, Sequence[Point]] = {point.name: [point] for point in fixed} | {SWITCHING: fixed}
    loads = []
    for load in LOADS:
        # One that cannot keep up would only fill its queue.
        able = [name for name in sides if name == SWITCHING or capacities[name] > load * capacity]
        runs: dict[str, list[Run]] = {name: [] for name in able}
        for number in range(rounds):
            for name in turned(able, number):
                runs[name].append(drive(opened(sides[name]), load * capacity, seed=number))
        loads.append(compared(load, runs))
        show(str(loads[-1]))
    past = []
    for load in PAST:
        overruns = [drive(opened(fixed), load * capacity, seed=number) for number in range(rounds)]
        goodputs = [run.goodput() / capacity for run in overruns]
        past.append(
            {
                "load": load,
                "goodput": statistics.median(goodputs),
                "goodputs": goodputs,
                "shed": statistics.median(run.shed / (run.shed + len(run.latencies)) for run in overruns),
                "slowest_s": max(latency for run in overruns for _, latency in run.latencies),
            }
        )
        show(str(past[-1]))
    return {
        "capacity": capacity,
        "capacities": capacities,
        "generator_share": share,
        "seconds": seconds,
        "rounds": rounds,
        "loads": loads,
        "past": past,
    }


def compared(load: float, runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Switching beside the fixed point with the least median; ratios round by round."""
    p99 = {name: statistics.median(run.p99_ms for run in some) for name, some in runs.items()}
    shed = {name: sum(run.shed for run in some) for name, some in runs.items()}
    best = min((name for name in p99 if name != SWITCHING), key=lambda name: p99[name])
    ratios = [ours.p99_ms / its.p99_ms for ours, its in zip(runs[SWITCHING], runs[best], strict=True)]
    return {
        "load": load,
        "p99_ms": p99,
        "p50_ms": {name: statistics.median(run.p50_ms for run in some) for name, some in runs.items()},
        "shed": shed,
        "best_fixed": best,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "switches": [run.switches for run in runs[SWITCHING]],
        "requests": sum(len(run.latencies) for run in runs[SWITCHING]),
    }


def driven(
    model: AdaptiveModel, rate: float, images: NDArray[np.float32], folder: Path, seconds: float, seed: int
) -> Run:
    """One drive at `rate` requests a second; the model is closed after it."""
    run = Run()

    def answered(query: int, begun: float, future: Future[Any]) -> None:
        future.result()
        now = time.perf_counter()
        run.latencies.append((now, now - begun))
        complete(query)

    def ask(queries: Sequence[Any]) -> None:
        for query in queries:
            run.last = time.perf_counter()
            run.first = run.first or run.last
            try:
                future = model.submit(images[query.index : query.index + 1])
            except Overloaded:
                run.shed += 1
                complete(query.id)
            else:
                future.add_done_callback(partial(answered, query.id, run.last))

    with model:
        run.p50_ms, run.p99_ms = generate(ask, rate, len(images), folder, seconds, seed)
        if run.shed:
            # The generator has those as answered at once.
            every = [latency for _, latency in run.latencies] + [PATIENCE] * run.shed
            at_least = [float(np.percentile(every, share)) * 1e3 for share in (50, 99)]
            run.p50_ms, run.p99_ms = max(run.p50_ms, at_least[0]), max(run.p99_ms, at_least[1])
        run.switches = model.statistics().switches
        run.points = dict(model.statistics().batches)
    return run


def generate(
    ask: Callable[[Sequence[Any]], None], rate: float, samples: int, folder: Path, seconds: float, seed: int
) -> tuple[float, float]:
    """Run the generator; the median and the 99th percentile of its log, in milliseconds."""
    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.Server
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.server_target_qps = rate
    settings.min_duration_ms = int(1000 * seconds)
    settings.min_query_count = 1
    settings.schedule_rng_seed = settings.sample_index_rng_seed = settings.qsl_rng_seed = 1 + seed
    output = loadgen.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    logs = loadgen.LogSettings()
    logs.log_output = output
    logs.enable_trace = False
    sut = loadgen.ConstructSUT(ask, lambda: None)
    library = loadgen.ConstructQSL(samples, samples, lambda _: None, lambda _: None)
    loadgen.StartTestWithLogSettings(sut, library, settings, logs)
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(sut)
    told = {}
    for line in (folder / "mlperf_log_detail.txt").read_text().splitlines():
        entry = json.loads(line.removeprefix(":::MLLOG "))
        told[entry["key"]] = entry["value"]
    return tuple(told[f"result_{share}_percentile_latency_ns"] / 1e6 for share in ("50.00", "99.00"))


def complete(query: int) -> None:
    """Tell the generator that a request is done."""
    loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(query, 0, 0)])


def answer_at_once(queries: Sequence[Any]) -> None:
    """A model that takes no time."""
    for query in queries:
        complete(query.id)


def generators_share(rate: float, images: NDArray[np.float32], folder: Path) -> float:
    """The share of one core that the generator takes by itself at `rate`, against a model that answers at once."""
    begun, used = time.perf_counter(), time.process_time()
    generate(answer_at_once, rate, len(images), folder, 5.0, 0)
    return (time.process_time() - used) / (time.perf_counter() - begun)


def turned(some: Sequence[Any], number: int) -> list[Any]:
    """In another order each time."""
    place = number % len(some)
    return [*some[place:], *some[:place]]


def show(line: str) -> None:
    """Progress, at once."""
    print(line, flush=True)


def as_table(cpu: Mapping[str, str], found: Mapping[str, Any]) -> str:
    """The findings as Markdown."""
    names = list(found["capacities"])
    lines = [
        f"ResNet-50-sized network, INT8 through OpenVINO, 3x{found['size']}x{found['size']}, {cpu['cpu']} "
        f"({cpu['isa']}). {found['rounds']} rounds of {found['seconds']:g} s, open loop, Poisson (MLCommons' load "
        f"generator, which takes {100 * found['generator_share']:.1f} % of a core at capacity). "
        f"Capacity {found['capacity']:.0f}/s.",
        "",
        "p99 in ms, medians; ratios are medians of the rounds' own.",
        "",
        f"| load | {' | '.join(names)} | switching | over the best fixed | least, most | limit | switches a round | "
        "refused |",
        f"| --- |{' --- |' * (len(names) + 6)}",
    ]
    for row in found["loads"]:
        cells = [f"{row['p99_ms'][name]:.1f}" if name in row["p99_ms"] else "cannot keep up" for name in names]
        lines.append(
            f"| {100 * row['load']:.0f} % | {' | '.join(cells)} | {row['p99_ms'][SWITCHING]:.1f} | "
            f"{row['ratio']:.2f}x | {min(row['ratios']):.2f}, {max(row['ratios']):.2f} | "
            f"{LIMIT}x | {statistics.median(row['switches']):g} | {row['shed'][SWITCHING]} |"
        )
    lines += [
        "",
        f"Past capacity, with a patience of {PATIENCE:g} s:",
        "",
        "| load | shed | goodput, of capacity | least | limit | slowest answer, s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {100 * row['load']:.0f} % | {100 * row['shed']:.0f} % | {100 * row['goodput']:.1f} % | "
        f"{100 * min(row['goodputs']):.1f} % | {100 * GOODPUT:.0f} % | {row['slowest_s']:.2f} |"
        for row in found["past"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

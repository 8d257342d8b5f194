"""ONNX Runtime's CUDA provider on a real GPU, beside PyTorch: ResNet-50 in FP32, TF32, FP16 and INT8.

    python -m benchmarks.gpu [--rounds 20] [--batches 1,8,64] [--max-autotune 64]
    python -m benchmarks.gpu --quick     few rounds, nothing tuned or compiled; prints, and writes nothing

Needs an NVIDIA GPU, `regiolect[onnxruntime-cuda]` and a PyTorch with CUDA. Every configuration of the backend is tried
for FP16 and INT8 first, and the best of each batch goes on. Then everything is measured in one run, in changing order:
once with inputs and outputs on the GPU already, once from and to this machine's memory. Medians; a call waits for the
GPU. PyTorch is beside it as it comes and compiled ("reduce-overhead"). A region whose policy states INT8 chooses its
graph here, as a release does, and the tuner finds FP16's operating points. Last comes torch.compile's own search
("max-autotune"), which takes minutes for each batch, beside PyTorch's others and FP16 once more. Writes
benchmarks/results/gpu.json and gpu.md as soon as there is something to tell.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks import resnet50
from benchmarks.gpu_report import COMPILED, EAGER, Found, Row, settings
from benchmarks.pairs import built
from benchmarks.unchecked import samples_of, validated
from regiolect.calibrate import keep_observed, observe, read_observed, table_of
from regiolect.contracts import (
    BatchProfile,
    CalibrationMethod,
    ChosenGraph,
    Configuration,
    EngineArtifact,
    ExportedModel,
    Observation,
    Performance,
    Precision,
    Target,
    TunedEngine,
    ValidatedCalibration,
)
from regiolect.engines.base import AS_IT_COMES
from regiolect.engines.catalog import backend
from regiolect.engines.onnxruntime.configurations import CUDA_GRAPH
from regiolect.engines.onnxruntime.cuda_runtime import CudaEngine
from regiolect.engines.onnxruntime.session import ERRORS
from regiolect.errors import RegiolectError
from regiolect.export import export_model
from regiolect.host.gpu import gpu
from regiolect.integrity import digest_of
from regiolect.planning import RegionRequest
from regiolect.policy import RegionPolicy
from regiolect.repair import choose_graph
from regiolect.storage import LocalStore
from regiolect.tune.run import tune_engine

BACKEND = "onnxruntime-cuda"
CALIBRATION = 32
AT_A_TIME = 3
Call = Callable[[], object]
Network = Callable[[torch.Tensor], torch.Tensor]
Images = NDArray[np.float32]


@dataclass(frozen=True)
class Contender:
    """Something that answers batches. `on_gpu` and `in_all` make a call for a batch: without and with transfers."""

    name: str
    on_gpu: Callable[[Images], Call]
    in_all: Callable[[Images], Call]
    told: str = ""


@dataclass(frozen=True)
class Engines:
    """The network, and its engines: built once, and loaded in one configuration after the other."""

    store: LocalStore
    model: ExportedModel
    data: ValidatedCalibration
    observed: Observation
    artifacts: Mapping[str, EngineArtifact]

    def load(self, name: str, configuration: Configuration = AS_IT_COMES) -> CudaEngine:
        """An engine of one of `artifacts`."""
        return cast(CudaEngine, backend(BACKEND).load(self.artifacts[name], self.store, configuration))


def main() -> None:
    """Measure, print tables, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batches", default="1,8,64", help="separated by commas")
    parser.add_argument("--max-autotune", default="64", help="batches for it, separated by commas; may be empty")
    parser.add_argument("--minutes", type=float, default=2.0, help="for the tuner")
    parser.add_argument("--quick", action="store_true", help="few rounds, nothing tuned or compiled; writes nothing")
    arguments = parser.parse_args()
    batches = [int(batch) for batch in arguments.batches.split(",")]
    device = gpu()
    if device is None:
        raise SystemExit("an NVIDIA GPU is needed; its driver and nvidia-ml-py tell of none here")
    with tempfile.TemporaryDirectory() as folder:
        engines = build(Path(folder))
        tried = [row for batch in batches for name in ("FP16", "INT8") for row in trials(engines, name, batch)]
        rounds = 5 if arguments.quick else arguments.rounds
        rows: list[Row] = []
        for batch in batches:
            contenders = contenders_of(engines, tried, batch)
            if not arguments.quick:
                contenders.append(of_torch(COMPILED, compiled("reduce-overhead")))
            rows += measured(contenders, batch, rounds)
        found = Found(device, rows, tried, chosen_graph(engines))
        if arguments.quick:
            print(found.report())
            return
        found.write()
        found = replace(found, tuned=tuned(engines, batches, arguments.minutes))
        found.write()
        print(found.report())
        for batch in map(int, filter(None, arguments.max_autotune.split(","))):
            beside = measured(beside_autotuned(engines, tried, batch), batch, rounds)
            found = replace(found, autotuned=(*found.autotuned, *beside))
            found.write()
            print(found.report())


def build(folder: Path) -> Engines:
    """The typed graphs of all precisions, INT8's from a calibration on random images."""
    images = np.random.default_rng(0).random((CALIBRATION, 3, 224, 224), np.float32)
    store = LocalStore(folder / "store")
    samples = samples_of("bench", {"image": images})
    model, data = export_model(resnet50.spec(), store, samples), validated(samples, store)
    observed = keep_observed(observe(model, data, store, ranges=True), store)
    table = table_of(read_observed(observed, store), CalibrationMethod.PERCENTILE)
    artifacts = {}
    for name, precision in (("FP32", "FP32"), ("TF32", "FP32"), ("FP16", "FP16"), ("INT8", "INT8")):
        recipe = backend(BACKEND).recipe_here(Precision(precision))
        ranges = None if precision == "FP32" else table
        artifacts[name] = built(
            BACKEND, "bench", model, recipe, ranges, store, precision=Precision(precision), tf32=name == "TF32"
        )
    return Engines(store, model, data, observed, artifacts)


def images_of(batch: int) -> Images:
    """The same random images in every call."""
    return np.random.default_rng(batch).random((batch, 3, 224, 224), np.float32)


def trials(engines: Engines, name: str, batch: int, rounds: int = 15) -> list[Row]:
    """Each configuration of the backend on a batch: the median with the batch on the GPU, or why it does not run."""
    artifact, images = engines.artifacts[name], images_of(batch)
    rows: list[Row] = []
    for configuration in backend(BACKEND).configurations(artifact.request):
        row: Row = {"engine": name, "batch": batch, "configuration": dict(configuration)}
        try:
            call = _bound(engines.load(name, configuration), images)
            for _ in range(5):
                call()
            row["ms"] = round(float(np.median([_timed(call) for _ in range(rounds)])), 4)
        except (RegiolectError, *ERRORS) as error:
            # The table says which configuration fails, and how.
            row["failed"] = " ".join(str(error).split())[:300]
        rows.append(row)
    return rows


def best(tried: Sequence[Row], name: str, batch: int, graphs: bool = True) -> Configuration:
    """The fastest configuration of those tried; `graphs`: CUDA graphs may be in it."""
    ran = [row for row in tried if (row["engine"], row["batch"]) == (name, batch) and "ms" in row]
    fitting = [row for row in ran if graphs or CUDA_GRAPH not in row["configuration"]]
    found: Configuration = min(fitting, key=lambda row: row["ms"])["configuration"]
    return found


def contenders_of(engines: Engines, tried: Sequence[Row], batch: int) -> list[Contender]:
    """All that run against each other at a batch."""
    found = [of_engine("FP32, no TF32", engines.load("FP32")), of_engine("TF32", engines.load("TF32"))]
    found.append(of_engine("FP16 as it comes", engines.load("FP16")))
    for title, name, graphs in (
        ("FP16 tuned, no CUDA graph", "FP16", False),
        ("FP16 tuned", "FP16", True),
        ("INT8 tuned", "INT8", True),
    ):
        configuration = best(tried, name, batch, graphs)
        found.append(of_engine(title, engines.load(name, configuration), settings(configuration)))
    return [*found, of_torch(EAGER, network())]


def beside_autotuned(engines: Engines, tried: Sequence[Row], batch: int) -> list[Contender]:
    """FP16 as tuned, and PyTorch: as it comes, compiled, and compiled after a search of its own for this batch."""
    configuration = best(tried, "FP16", batch)
    return [
        of_engine("FP16 tuned", engines.load("FP16", configuration), settings(configuration)),
        of_torch(EAGER, network()),
        of_torch(COMPILED, compiled("reduce-overhead")),
        of_torch("PyTorch compiled, max-autotune", compiled("max-autotune")),
    ]


def compiled(mode: str) -> Network:
    """The network compiled for the one batch size that it is called with."""
    return torch.compile(network(), mode=mode, dynamic=False)


def network() -> nn.Module:
    """The network as PyTorch runs it fastest without compiling it."""
    return resnet50.resnet50().cuda().half().to(memory_format=torch.channels_last)


def tuned(engines: Engines, batches: Sequence[int], minutes: float) -> TunedEngine:
    """FP16's operating points at these batches."""
    artifact = engines.artifacts["FP16"]
    profile = BatchProfile(min=1, opt=batches[-1], max=batches[-1], buckets=tuple(batches))
    asked = artifact.model_copy(update={"request": artifact.request.model_copy(update={"profile": profile})})
    images = {"image": images_of(CALIBRATION)}
    return tune_engine(
        backend(BACKEND), asked, images, engines.store, minutes=minutes, tuned_for=Performance.THROUGHPUT
    )


def of_engine(name: str, engine: CudaEngine, told: str = "") -> Contender:
    """One of ours."""
    return Contender(
        name,
        on_gpu=lambda images: _bound(engine, images),
        in_all=lambda images: lambda: engine.run({"image": images}),
        told=told,
    )


def _bound(engine: CudaEngine, images: Images) -> Call:
    batch = engine.bound({"image": images})
    batch.copy_in({"image": images})
    return batch.compute


def of_torch(name: str, model: Network) -> Contender:
    """PyTorch's own: float32 images and logits in this machine's memory, FP16 and channels-last on the GPU."""

    def to_gpu(images: Images) -> torch.Tensor:
        return torch.from_numpy(images).cuda().half().contiguous(memory_format=torch.channels_last)

    def on_gpu(images: Images) -> Call:
        there = to_gpu(images)

        def call() -> None:
            with torch.inference_mode():
                model(there)
            torch.cuda.synchronize()

        return call

    def in_all(images: Images) -> Call:
        def call() -> NDArray[Any]:
            with torch.inference_mode():
                return model(to_gpu(images)).float().cpu().numpy()

        return call

    return Contender(name, on_gpu, in_all)


def chosen_graph(engines: Engines) -> ChosenGraph:
    """What a region ships whose policy states INT8 and lets wider precisions take its place."""
    policy = RegionPolicy.model_validate(
        {
            "region": "bench",
            "title": "Benchmark",
            "reason": "stated here to see what a release chooses on this GPU",
            "precision": "INT8",
            # Of random weights nobody knows the answers: speed alone decides.
            "accuracy": {"metric": "accuracy", "limit": 100},
            "samples": {"calibration": CALIBRATION, "selection": CALIBRATION, "gate": CALIBRATION},
            "batch": {"min": 1, "opt": 64, "max": 64},
            "targets": [{"name": "gpu-here", "backend": BACKEND}],
        }
    )
    request = RegionRequest(
        address="benchmarks.resnet50",
        name=engines.model.name,
        policy=policy,
        target=Target(name="gpu-here", backend=BACKEND),
        build_key=digest_of("benchmark"),
        key_parts={},
    )
    return choose_graph(request, resnet50.spec(), engines.model, engines.data, engines.observed, engines.store)


def measured(contenders: Sequence[Contender], batch: int, rounds: int) -> list[Row]:
    """Medians of all contenders, a few calls of each in turn, in an order that changes from round to round."""
    images = images_of(batch)
    calls = {
        (contender.name, kind): getattr(contender, kind)(images)
        for contender in contenders
        for kind in ("on_gpu", "in_all")
    }
    for call in calls.values():
        for _ in range(5):
            call()
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    order = list(calls)
    for number in range(rounds):
        shift = number % len(order)
        for key in order[shift:] + order[:shift]:
            # The first one finds caches and buffers as the contender before left them.
            calls[key]()
            times[key] += [_timed(calls[key]) for _ in range(AT_A_TIME)]
    rows = []
    for contender in contenders:
        row: Row = {"batch": batch, "contender": contender.name, "configuration": contender.told}
        for kind in ("on_gpu", "in_all"):
            median = float(np.median(times[contender.name, kind]))
            row |= {f"{kind}_ms": round(median, 4), f"{kind}_images_s": round(batch / median * 1e3)}
        rows.append(row)
    return rows


def _timed(call: Call) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main()

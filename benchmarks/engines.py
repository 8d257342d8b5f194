"""How much faster INT8 runs than FP32, per CPU backend, on a network of ResNet-50's size.

    python -m benchmarks.engines [--seconds 20] [--batches 1,8]

Every stage is Regiolect's own: export, calibration on random images, typed graph by the backend's recipe, build, load.
The baseline is the FP32 graph through the same backend, FP32 kernels forced; both run in turn in one process.
Writes benchmarks/results/engines.json and engines.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.resnet50 import resnet50
from regiolect.calibrate import calibrate
from regiolect.contracts import (
    BatchProfile,
    BuildRequest,
    CalibrationMethod,
    CalibrationTable,
    CheckResult,
    DeclaredStatistics,
    ExportedModel,
    Performance,
    Precision,
    RegionDataset,
    Split,
    Target,
    TensorSpec,
    Timing,
    ValidatedCalibration,
)
from regiolect.data import FolderSource, Samples, save_samples
from regiolect.engines.base import Engine
from regiolect.engines.catalog import backend
from regiolect.evaluate.metrics import top1
from regiolect.evaluate.timing import measure
from regiolect.export import export_model
from regiolect.graphs import typed_graph
from regiolect.ingest import ingest
from regiolect.integrity import digest_of, write_atomic
from regiolect.machine import cpu_fingerprint, whole_machine
from regiolect.model import ModelSpec
from regiolect.storage import LocalStore

REGION = "bench"
BACKENDS = ("openvino", "onnxruntime")
# What the project promises of INT8 over FP32 at batch 1, by the widest INT8 instruction set of the processor.
PROMISED = {
    "openvino": (("amx_int8", 4.0), ("avx512_vnni", 3.0), ("avx_vnni", 2.0)),
    "onnxruntime": (("avx512_vnni", 3.0), ("avx_vnni", 3.0)),
}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="measuring time per backend and batch")
    parser.add_argument("--batches", default="1,8", help="batch sizes, separated by commas")
    arguments = parser.parse_args()
    batches = [int(batch) for batch in arguments.batches.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_all(Path(folder), batches, arguments.seconds)
    RESULTS.mkdir(exist_ok=True)
    result = {"cpu": cpu_fingerprint(), "network": "ResNet-50-sized, random weights, 3x224x224", "rows": rows}
    write_atomic(RESULTS / "engines.json", (json.dumps(result, indent=2) + "\n").encode())
    table = as_table(result["cpu"], rows)  # type: ignore[arg-type]
    write_atomic(RESULTS / "engines.md", table.encode())
    print(table)


def measure_all(folder: Path, batches: list[int], seconds: float) -> list[dict[str, object]]:
    """One row per backend and batch."""
    store = LocalStore(folder / "store")
    spec, data = _model_and_data(folder, store)
    exported = export_model(spec, store, spec.region_data(REGION).load(Split.CALIBRATION))
    table = calibrate(exported, data, CalibrationMethod.ENTROPY, store)
    rows = []
    for name in BACKENDS:
        wide = _engine(name, Precision.FP32, exported, None, store)
        narrow = _engine(name, Precision.INT8, exported, table, store)
        rows.extend(_row(name, narrow, wide, _time(narrow, wide, batch, seconds)) for batch in batches)
    return rows


def _time(narrow: Engine, wide: Engine, batch: int, seconds: float) -> Timing:
    images = {"image": np.random.default_rng(batch).random((batch, 3, 224, 224), np.float32)}
    with whole_machine():
        return measure(
            lambda: narrow.run(images),
            lambda: wide.run(images),
            batch,
            seconds=seconds,
            most=2000,
            confidence=0.95,
        )


def _row(name: str, narrow: Engine, wide: Engine, timing: Timing) -> dict[str, object]:
    isa = cpu_fingerprint()["isa"].split()
    promised = next((ratio for flag, ratio in PROMISED[name] if flag in isa), None)
    return {
        "backend": name,
        "batch": timing.batch,
        "fp32_ms": round(timing.baseline_p50_ms, 2),
        "int8_ms": round(timing.p50_ms, 2),
        "ratio": round(timing.speedup, 2),
        "promised_at_batch_1": promised,
        "rounds": timing.rounds,
        "fp32_executes": {kind.value: count for kind, count in wide.executed().items()},
        "int8_executes": {kind.value: count for kind, count in narrow.executed().items()},
    }


def as_table(cpu: dict[str, str], rows: list[dict[str, object]]) -> str:
    """The rows as Markdown."""
    lines = [
        f"ResNet-50-sized network, random weights, 3x224x224, {cpu['cpu']} ({cpu['isa']}); medians in ms, interleaved.",
        "",
        "| backend | batch | FP32 ms | INT8 ms | INT8 over FP32 | promised at batch 1 | INT8 executes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        kinds = " + ".join(f"{kind} {count}" for kind, count in row["int8_executes"].items())  # type: ignore[attr-defined]
        promised = f"{row['promised_at_batch_1']}x" if row["promised_at_batch_1"] else "nothing on this processor"
        lines.append(
            f"| {row['backend']} | {row['batch']} | {row['fp32_ms']} | {row['int8_ms']} | {row['ratio']}x | "
            f"{promised} | {kinds} |"
        )
    return "\n".join(lines) + "\n"


def _model_and_data(folder: Path, store: LocalStore) -> tuple[ModelSpec, ValidatedCalibration]:
    rng = np.random.default_rng(0)
    for split, count in ((Split.CALIBRATION, 16), (Split.SELECTION, 1), (Split.GATE, 1)):
        samples = Samples(
            ids=np.array([f"{split}/{i}" for i in range(count)]),
            regions=np.full(count, REGION),
            inputs={"image": rng.random((count, 3, 224, 224), np.float32)},
            targets=np.zeros(count, np.int64),
        )
        save_samples(folder / f"{split}.npz", samples)
    source = FolderSource(REGION, folder, DeclaredStatistics(mean=(0, 1), std=(0, 1)))
    spec = ModelSpec(
        name="resnet50",
        loader=resnet50,
        sources=(Path(__file__).with_name("resnet50.py"),),
        inputs=(TensorSpec(name="image", shape=("batch", 3, 224, 224)),),
        outputs=("logits",),
        metrics={"accuracy": top1},
        data={REGION: source},
        parity_tolerance=1e-3,
    )
    dataset: RegionDataset = ingest(source, store, spec.inputs, "float32")
    seen = CheckResult(expectation="random images", split="all", passed=True, expected="any", observed="any")
    return spec, ValidatedCalibration(dataset=dataset, checks=(seen,))


def _engine(
    name: str, precision: Precision, model: ExportedModel, table: CalibrationTable | None, store: LocalStore
) -> Engine:
    chosen = backend(name)
    graph = typed_graph(model, REGION, precision, chosen.recipe(precision), table, store)
    request = BuildRequest(
        model=model.name,
        region=REGION,
        target=Target(name="cpu-x86", backend=name),
        precision=precision,
        graph=graph,
        inputs=model.inputs,
        outputs=model.outputs,
        profile=BatchProfile(min=1, opt=8, max=64),
        performance=Performance.LATENCY,
        policy=digest_of({"policy": "benchmark"}),
        build_key=digest_of({"backend": name, "precision": precision}),
    )
    artifact = chosen.build(request, store, calibration=digest_of(table) if table is not None else None)
    return chosen.load(artifact, store)


if __name__ == "__main__":
    main()

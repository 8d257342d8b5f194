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
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks import resnet50
from benchmarks.pairs import Times, engine, times
from benchmarks.unchecked import samples_of, validated
from regiolect.calibrate import calibrate
from regiolect.contracts import CalibrationMethod, Precision
from regiolect.engines.catalog import backend
from regiolect.export import export_model
from regiolect.host.cpu import cpu_fingerprint
from regiolect.integrity import write_atomic
from regiolect.storage import LocalStore

REGION = "bench"
BACKENDS = ("openvino", "onnxruntime")
# What the project promises of INT8 over FP32 at batch 1, by the widest INT8 instruction set of the processor.
PROMISED = {
    "openvino": (("amx_int8", 4.0), ("avx512_vnni", 3.0), ("avx_vnni", 2.0)),
    "onnxruntime": (("avx512_vnni", 3.0), ("avx_vnni", 3.0)),
}
RESULTS = Path(__file__).parent / "results"


class Row(Times):
    """One backend at one batch; kernels by the type that they execute in."""

    backend: str
    promised_at_batch_1: float | None
    fp32_executes: dict[str, int]
    int8_executes: dict[str, int]


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
    cpu = cpu_fingerprint()
    result = {"cpu": cpu, "network": "ResNet-50-sized, random weights, 3x224x224", "rows": rows}
    write_atomic(RESULTS / "engines.json", (json.dumps(result, indent=2) + "\n").encode())
    table = as_table(cpu, rows)
    write_atomic(RESULTS / "engines.md", table.encode())
    print(table)


def measure_all(folder: Path, batches: list[int], seconds: float) -> list[Row]:
    """One row per backend and batch."""
    store = LocalStore(folder)
    images = np.random.default_rng(0).random((max(16, *batches), 3, 224, 224), np.float32)
    samples = samples_of(REGION, {"image": images[:16]})
    model = export_model(resnet50.spec(), store, samples)
    table = calibrate(model, validated(samples, store), CalibrationMethod.ENTROPY, store)
    isa = cpu_fingerprint()["isa"].split()
    rows: list[Row] = []
    for name in BACKENDS:
        recipe = backend(name).recipe_here
        wide = engine(name, REGION, model, recipe(Precision.FP32), None, store)
        narrow = engine(name, REGION, model, recipe(Precision.INT8), table, store)
        rows.extend(
            {
                "backend": name,
                **times(narrow, wide, {"image": images[:batch]}, seconds),
                "promised_at_batch_1": next((ratio for flag, ratio in PROMISED[name] if flag in isa), None),
                "fp32_executes": {kind.value: count for kind, count in wide.executed().items()},
                "int8_executes": {kind.value: count for kind, count in narrow.executed().items()},
            }
            for batch in batches
        )
    return rows


def as_table(cpu: Mapping[str, str], rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        f"ResNet-50-sized network, random weights, 3x224x224, {cpu['cpu']} ({cpu['isa']}); medians in ms, interleaved.",
        "",
        "| backend | batch | FP32 ms | INT8 ms | INT8 over FP32 | promised at batch 1 | INT8 executes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        kinds = " + ".join(f"{kind} {count}" for kind, count in row["int8_executes"].items())
        promised = f"{row['promised_at_batch_1']}x" if row["promised_at_batch_1"] else "nothing on this processor"
        lines.append(
            f"| {row['backend']} | {row['batch']} | {row['fp32_ms']} | {row['int8_ms']} | {row['ratio']}x | "
            f"{promised} | {kinds} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

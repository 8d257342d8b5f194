"""Building plans of TensorRT-RTX for both examples, on a machine without a GPU.

    python -m benchmarks.plans [--quick]

Each example is exported once and written as an FP32, an FP16 and an INT8 graph by the backend's own recipe; each graph
becomes a plan for every compute capability that it may be for, and one for a single GPU. Batch and width vary as the
built-in policy of Japan says. INT8 thresholds come from a few of the region's calibration samples: a plan takes as long
to build whatever they are. Seconds are of the builds alone, one after the other, from the graph in the store to the
plan in the store.

Writes benchmarks/results/plans.json and plans.md, unless --quick.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.orchestration import measured
from benchmarks.unchecked import validated
from regiolect.calibrate import observe, table_of
from regiolect.contracts import (
    BuildRequest,
    CalibrationMethod,
    EngineArtifact,
    ExportedModel,
    Precision,
    Split,
    Target,
)
from regiolect.engines.catalog import backend
from regiolect.export import export_model
from regiolect.graphs import typed_graph
from regiolect.integrity import digest_of, write_atomic
from regiolect.model import ModelSpec
from regiolect.policy import PolicyBook, RegionPolicy, builtin_policies
from regiolect.storage import LocalStore

RESULTS = Path(__file__).parent / "results"
BACKEND, REGION = "tensorrt-rtx", "jp"
# What the project promises, of all plans together.
ALL_SECONDS = 30.0
SAMPLES = 8
GPUS: Mapping[str, Mapping[str, Any]] = {"every one": {}, "SM89": {"compute_capabilities": ("SM89",)}}

Row = dict[str, Any]


class Example:
    """An example's graphs, kept in a store, and the requests for plans of them."""

    def __init__(self, spec: ModelSpec, store: LocalStore) -> None:
        self.spec, self.store = spec, store
        self.policy: RegionPolicy = PolicyBook(builtin_policies()).load(REGION)
        samples = spec.region_data(REGION).load(Split.CALIBRATION).take(slice(0, SAMPLES))
        self.model: ExportedModel = export_model(spec, store, samples)
        seen = observe(self.model, validated(samples, store), store, ranges=True)
        table = table_of(seen, CalibrationMethod.PERCENTILE)
        recipe = backend(BACKEND).recipe_here
        self.graphs = {
            precision: typed_graph(
                self.model,
                REGION,
                precision,
                recipe(precision),
                None if precision is Precision.FP32 else table,
                store,
            )
            for precision in Precision
        }

    def request(self, precision: Precision, options: Mapping[str, Any]) -> BuildRequest:
        """As a release would ask for it."""
        target = Target(name="gpu-rtx", backend=BACKEND, options=options)
        return BuildRequest(
            model=self.spec.name,
            region=REGION,
            target=target,
            precision=precision,
            graph=self.graphs[precision],
            inputs=self.model.inputs,
            outputs=self.model.outputs,
            profile=self.policy.batch,
            shapes=self.policy.shapes_for(self.model.inputs),
            performance=self.policy.performance,
            policy=self.policy.digest(),
            build_key=digest_of({"benchmark": "plans", "model": self.spec.name, "precision": precision.value}),
        )

    def build(self, precision: Precision, options: Mapping[str, Any]) -> EngineArtifact:
        """The plan, kept in the store."""
        return backend(BACKEND).build(self.request(precision, options), self.store)


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="prints, and writes no result")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regiolect-benchmark-") as folder:
        result = measured(lambda: {"version": backend(BACKEND).version(), "plans": plans(LocalStore(Path(folder)))})
    text = as_text(result)
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        write_atomic(RESULTS / "plans.json", (json.dumps(result, indent=2) + "\n").encode())
        write_atomic(RESULTS / "plans.md", text.encode())
    print(text)
    total = sum(row["seconds"] for row in result["plans"])
    if total >= ALL_SECONDS:
        raise SystemExit(f"all plans together took {total:.1f} s, and {ALL_SECONDS:.0f} s were promised")


def plans(store: LocalStore) -> list[Row]:
    """One row a plan."""
    from examples.fashion import MODEL as FASHION
    from examples.ocr import MODEL as OCR

    rows: list[Row] = []
    # The library is loaded once a process, before the first plan.
    backend(BACKEND).require()
    for spec in (FASHION, OCR):
        example = Example(spec, store)
        for precision in Precision:
            for gpus, options in GPUS.items():
                clock = time.perf_counter()
                artifact = example.build(precision, options)
                seconds = round(time.perf_counter() - clock, 2)
                size = artifact.files[0].blob.size
                rows.append(
                    {"model": spec.name, "precision": precision.value, "gpus": gpus, "seconds": seconds, "bytes": size}
                )
    return rows


def as_text(result: Mapping[str, Any]) -> str:
    """The measurement as Markdown."""
    machine, (before, after), rows = result["machine"], result["load"], result["plans"]
    total = sum(row["seconds"] for row in rows)
    lines = [
        f"Plans of TensorRT-RTX {result['version']} for both examples, built without a GPU, one after the other. "
        f"{machine['cpu']}, {machine['cores']} cores, load {before} before and {after} after, {result['measured']}. "
        f"All together {total:.1f} s; promised: below {ALL_SECONDS:.0f} s.",
        "",
        "| model | graph | compute capabilities | s | MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['model']} | {row['precision']} | {row['gpus']} | {row['seconds']:.2f} | {row['bytes'] / 1e6:.2f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""How an INT8 graph is best written for each CPU backend: one choice of the shipped recipe changed at a time.

    python -m benchmarks.recipes [--seconds 10] [--batches 1,8] [--networks resnet50,ocr]
    python -m benchmarks.recipes --quick     a second each at batch 1; prints, and writes nothing

Two networks: one of ResNet-50's size with random weights, on random images, and the OCR example on its own lines. Each
INT8 engine runs in turn with the FP32 engine of the same backend, FP32 kernels forced. Beside the times stands what it
costs in answers: the power of the difference over the power of the FP32 output, and for lines of text the share that is
read as in FP32. Thresholds are percentiles. Writes benchmarks/results/recipes.json and recipes.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import resnet50
from benchmarks.pairs import engine, times
from benchmarks.unchecked import samples_of, validated
from examples.ocr import MODEL as OCR
from examples.ocr.metrics import read
from regiolect.calibrate import observe, table_of
from regiolect.contracts import CalibrationMethod, CalibrationTable, DimensionProfile, ExportedModel, Precision, Split
from regiolect.data import Samples, model_inputs
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.export import export_model
from regiolect.graphs import operators_of, protos
from regiolect.host.cpu import cpu_fingerprint
from regiolect.integrity import write_atomic
from regiolect.precision import Recipe
from regiolect.storage import LocalStore

BACKENDS = ("openvino", "onnxruntime")
RESULTS = Path(__file__).parent / "results"
CALIBRATION, SCORED = 32, 96
Wider = Callable[["Bench", Recipe], tuple[str, ...]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """The shipped recipe with one thing changed: fields of it, or operators that are left out."""

    title: str
    changes: Callable[[Recipe], Mapping[str, object]] = lambda _: {}
    wider: Wider = lambda *_: ()


def _depthwise(bench: Bench, recipe: Recipe) -> tuple[str, ...]:
    nodes = protos.producers(bench.graph)
    return tuple(
        name
        for name in operators_of(bench.model, recipe, bench.store)
        if any(attribute.name == "group" and attribute.i > 1 for attribute in nodes[name].attribute)
    )


def _products(bench: Bench, recipe: Recipe) -> tuple[str, ...]:
    nodes, held = protos.producers(bench.graph), protos.constants(bench.graph)
    return tuple(
        name
        for name in operators_of(bench.model, recipe, bench.store)
        if nodes[name].op_type == "MatMul" and not held.keys() & set(nodes[name].input)
    )


VARIANTS = (
    Variant("as shipped"),
    Variant("signed activations", lambda _: {"activation": "int8"}),
    Variant("FP16 scales and remainder", lambda _: {"remainder": Precision.FP16, "integer_bias": False}),
    Variant("float residual additions", lambda _: {"residual_add": False}),
    Variant("the other size of weights", lambda recipe: {"pairs_in_int16": not recipe.pairs_in_int16}),
    Variant("the other kind of bias", lambda recipe: {"integer_bias": not recipe.integer_bias}),
    Variant("depthwise convolutions in FP32", wider=_depthwise),
    Variant("products of two activations in FP32", wider=_products),
)


@dataclass(frozen=True)
class Bench:
    """A network, its thresholds, samples to score, and how its answers are read; `shapes` as of a build request."""

    name: str
    store: LocalStore
    model: ExportedModel
    table: CalibrationTable
    inputs: Mapping[str, NDArray[np.float32]]
    shapes: Mapping[str, DimensionProfile]
    texts: Callable[[Mapping[str, NDArray[Any]]], Sequence[str | None]] | None = None

    @property
    def graph(self) -> Any:
        """The exported graph."""
        return protos.load(self.store.path_of(self.model.graph)).graph

    def engine(self, name: str, precision: Precision, recipe: Recipe, wider: Collection[str] = ()) -> Engine:
        """The engine of a recipe."""
        table = self.table if precision is Precision.INT8 else None
        return engine(
            name, self.table.seal.region, self.model, recipe, table, self.store, wider=wider, shapes=self.shapes
        )


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="measuring time per recipe and batch")
    parser.add_argument("--batches", default="1,8", help="batch sizes, separated by commas")
    parser.add_argument("--networks", default=",".join(BENCHES), help="separated by commas")
    parser.add_argument("--quick", action="store_true", help="a second each at batch 1; prints, and writes nothing")
    arguments = parser.parse_args()
    batches = [1] if arguments.quick else [int(batch) for batch in arguments.batches.split(",")]
    rows: list[Row] = []
    for name in arguments.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            bench = BENCHES[name](Path(folder))
            for library in BACKENDS:
                rows += measured(bench, library, batches, 1.0 if arguments.quick else arguments.seconds)
    cpu = cpu_fingerprint()
    table = as_table(cpu, rows)
    print(table)
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        write_atomic(RESULTS / "recipes.json", (json.dumps({"cpu": cpu, "rows": rows}, indent=2) + "\n").encode())
        write_atomic(RESULTS / "recipes.md", table.encode())


def measured(bench: Bench, name: str, batches: Sequence[int], seconds: float) -> list[Row]:
    """One row per variant: its loss, and its time at each batch beside FP32's. A variant that changes no graph is left
    out.
    """
    shipped = backend(name).recipe_here(Precision.INT8)
    wide = bench.engine(name, Precision.FP32, backend(name).recipe_here(Precision.FP32))
    reference = _answers(wide, bench.inputs)
    rows: list[Row] = []
    seen: set[str] = set()
    for variant in VARIANTS:
        recipe = shipped.model_copy(update=dict(variant.changes(shipped)))
        narrow = bench.engine(name, Precision.INT8, recipe, variant.wider(bench, recipe))
        if narrow.artifact.request.graph.digest in seen:
            continue
        seen.add(narrow.artifact.request.graph.digest)
        found = _answers(narrow, bench.inputs)
        row: Row = {"network": bench.name, "backend": name, "variant": variant.title}
        row["loss_db"] = round(_loss_db(found, reference), 1)
        if bench.texts is not None:
            same = [ours == theirs for ours, theirs in zip(bench.texts(found), bench.texts(reference), strict=True)]
            row["same_text_percent"] = round(100 * float(np.mean(same)), 1)
        row["executes"] = {kind.value: count for kind, count in narrow.executed().items()}
        pieces = [{name: array[:batch] for name, array in bench.inputs.items()} for batch in batches]
        row["times"] = [times(narrow, wide, piece, seconds) for piece in pieces]
        rows.append(row)
    return rows


def _answers(engine: Engine, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    count = len(next(iter(inputs.values())))
    parts = [engine.run({name: array[at : at + 16] for name, array in inputs.items()}) for at in range(0, count, 16)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _loss_db(found: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> float:
    (name,) = reference
    lost = np.square(found[name].astype(np.float64) - reference[name]).sum()
    return float(10 * np.log10(lost / np.square(reference[name].astype(np.float64)).sum()))


def as_table(cpu: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    batches = [time["batch"] for time in rows[0]["times"]]
    lines = [
        f"{cpu['cpu']} ({cpu['isa']}). INT8 over FP32 of the same backend, medians, interleaved; loss: power of the "
        "difference over power of the FP32 output, in dB, lower is better.",
        "",
        f"| network | backend | recipe | {' | '.join(f'batch {batch}' for batch in batches)} | loss, dB | same text |",
        "| " + " | ".join(["---"] * (5 + len(batches))) + " |",
    ]
    for row in rows:
        times = " | ".join(f"{time['ratio']:.2f}x ({time['int8_ms']} ms)" for time in row["times"])
        same = f"{row['same_text_percent']} %" if "same_text_percent" in row else ""
        told = f"{row['network']} | {row['backend']} | {row['variant']} | {times} | {row['loss_db']} | {same}"
        lines.append(f"| {told} |")
    return "\n".join(lines) + "\n"


def _resnet50(folder: Path) -> Bench:
    images = np.random.default_rng(0).random((CALIBRATION + 16, 3, 224, 224), np.float32)
    store = LocalStore(folder / "store")
    samples = samples_of("bench", {"image": images[:CALIBRATION]})
    model = export_model(resnet50.spec(), store, samples)
    return Bench("resnet50", store, model, _table(model, samples, store), {"image": images[CALIBRATION:]}, {})


def _ocr(folder: Path, region: str = "na") -> Bench:
    store = LocalStore(folder / "store")
    source = OCR.data[region]
    samples = source.load(Split.CALIBRATION).take(slice(0, CALIBRATION))
    model = export_model(OCR, store, samples)
    scored = model_inputs(source.load(Split.SELECTION).take(slice(0, SCORED)), OCR.preprocessing)
    width = scored["x"].shape[3]
    shapes = {"width": DimensionProfile(min=width, opt=width, max=width)}
    return Bench("ocr", store, model, _table(model, samples, store), scored, shapes, read)


BENCHES: dict[str, Callable[[Path], Bench]] = {"resnet50": _resnet50, "ocr": _ocr}


def _table(model: ExportedModel, samples: Samples, store: LocalStore) -> CalibrationTable:
    return table_of(observe(model, validated(samples, store), store, ranges=True), CalibrationMethod.PERCENTILE)


if __name__ == "__main__":
    main()

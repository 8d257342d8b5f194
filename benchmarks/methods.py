"""What INT8 loses by each method of calibration: five networks that choose the default, and two that only report.

    python -m benchmarks.methods [--seeds 3]
    python -m benchmarks.methods --quick     one seed, the first network; prints, and writes nothing

Each network is calibrated on 256 samples (PP-OCRv4 on 128), quantized whole by each backend's recipe for this machine,
and scored beside the same backend's FP32 on 4,000 others (200 lines for PP-OCRv4). Nothing is left out and nothing
repaired. A seed draws the samples, and trains a network that is trained here; what is only reported has one.

The rule, written before the first run: the default is the method whose worst mean loss of a network on a
backend, over the seeds, is smallest among the five; of methods whose worst are less than 0.25 points apart, the one of
the smallest mean over all five, where a gain counts as a gain. Writes benchmarks/results/methods.json and methods.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.method_networks import TO_CHOOSE, TO_REPORT, Maker
from benchmarks.pairs import engine
from benchmarks.unchecked import samples_of, validated
from regiolect.calibrate import observe, table_of
from regiolect.contracts import CalibrationMethod, CalibrationTable, Precision
from regiolect.data import model_inputs
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.export import export_model
from regiolect.host.cpu import cpu_fingerprint
from regiolect.integrity import write_atomic
from regiolect.storage import LocalStore

BACKENDS = ("openvino", "onnxruntime")
RESULTS = Path(__file__).parent / "results"
REGION = "bench"
NETWORKS: Mapping[str, Maker] = {**TO_CHOOSE, **TO_REPORT}
ALIKE = 0.25
_AT_A_TIME = 16
Row = dict[str, Any]
Inputs = Mapping[str, NDArray[Any]]


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="of each network to choose by")
    parser.add_argument("--quick", action="store_true", help="one seed, the first network; prints, and writes nothing")
    arguments = parser.parse_args()
    seeds = {**dict.fromkeys(TO_CHOOSE, arguments.seeds), **dict.fromkeys(TO_REPORT, 1)}
    if arguments.quick:
        seeds = {next(iter(TO_CHOOSE)): 1}
    rows: list[Row] = []
    for name, count in seeds.items():
        for seed in range(count):
            rows += measured(name, NETWORKS[name], seed)
            print(json.dumps(rows[-len(BACKENDS) :]), flush=True)
    result = {"cpu": cpu_fingerprint(), "rows": rows, "chosen": chosen(rows)}
    print(as_table(result))
    if not arguments.quick:
        write_atomic(RESULTS / "methods.json", (json.dumps(result, indent=2) + "\n").encode())
        write_atomic(RESULTS / "methods.md", as_table(result).encode())


def measured(name: str, maker: Maker, seed: int) -> list[Row]:
    """A row for each backend: the share that FP32 has right, and what each method loses of it, in points."""
    with tempfile.TemporaryDirectory() as folder:
        task, store = maker(seed, Path(folder)), LocalStore(Path(folder) / "store")
        (tensor,) = task.spec.inputs
        samples = samples_of(REGION, {tensor.name: task.calibration})
        model = export_model(task.spec, store, samples)
        seen = observe(model, validated(samples, store), store, ranges=True)
        tables = {method.value: table_of(seen, method) for method in CalibrationMethod}
        raw, targets = task.scored
        inputs = model_inputs(samples_of(REGION, {tensor.name: raw}), task.spec.preprocessing)

        def right(library: str, table: CalibrationTable | None) -> float:
            precision = Precision.FP32 if table is None else Precision.INT8
            recipe = backend(library).recipe_here(precision)
            narrow = engine(library, REGION, model, recipe, table, store, shapes=task.shapes)
            return 100 * float(task.score(_answers(narrow, inputs), targets).mean())

        rows = []
        for library in BACKENDS:
            wide = right(library, None)
            losses = {method: round(wide - right(library, table), 3) for method, table in tables.items()}
            rows.append({"network": name, "seed": seed, "backend": library, "fp32": round(wide, 3), "losses": losses})
        return rows


def _answers(engine: Engine, inputs: Inputs) -> dict[str, NDArray[Any]]:
    count = len(next(iter(inputs.values())))
    parts = [
        engine.run({name: array[at : at + _AT_A_TIME] for name, array in inputs.items()})
        for at in range(0, count, _AT_A_TIME)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def chosen(rows: Sequence[Row]) -> str:
    """The method that the rule of this file makes the default."""
    losses = {method: [mean[method] for _, _, mean in _means(rows, TO_CHOOSE)] for method in CalibrationMethod}
    least = min(max(each) for each in losses.values())
    alike = [method for method, each in losses.items() if max(each) < least + ALIKE]
    return min(alike, key=lambda method: float(np.mean(losses[method]))).value


def _means(rows: Sequence[Row], networks: Mapping[str, Maker]) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Network, backend, and each method's mean loss over the seeds; "fp32" beside them is the share right."""
    for name in networks:
        for library in BACKENDS:
            own = [row for row in rows if (row["network"], row["backend"]) == (name, library)]
            if own:
                told = [{"fp32": row["fp32"], **row["losses"]} for row in own]
                yield name, library, {key: float(np.mean([each[key] for each in told])) for key in told[0]}


def as_table(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    rows, cpu = result["rows"], result["cpu"]
    seeds = 1 + max(row["seed"] for row in rows)
    methods = [method.value for method in CalibrationMethod]
    lines = [
        f"{cpu['cpu']} ({cpu['isa']}). Losses of INT8 against FP32 of the same backend in points, means over {seeds} "
        "seeds, but for what is reported only; below zero: INT8 has more right. `python -m benchmarks.methods`",
        "",
        f"| network | backend | FP32 right | {' | '.join(methods)} |",
        "| " + " | ".join(["---"] * (3 + len(methods))) + " |",
    ]
    for name, library, mean in (*_means(rows, TO_CHOOSE), *_means(rows, TO_REPORT)):
        told = f"{name}{' (reported only)' if name in TO_REPORT else ''} | {library} | {mean['fp32']:.2f} %"
        lines.append(f"| {told} | {_cells(mean[method] for method in methods)} |")
    for whose, networks in (("to choose by", TO_CHOOSE), ("reported only", TO_REPORT)):
        means = [mean for _, _, mean in _means(rows, networks)]
        for what, of in (("worst", np.max), ("mean", np.mean)) if means else ():
            lines.append(
                f"| **{what}, {whose}** | | | {_cells(of([each[name] for each in means]) for name in methods)} |"
            )
    return "\n".join([*lines, "", f"By the rule in benchmarks/methods.py the default is `{result['chosen']}`.", ""])


def _cells(figures: Iterable[float]) -> str:
    # Adding 0.0 turns -0.0 into 0.0.
    return " | ".join(f"{round(float(figure), 2) + 0.0:.2f}" for figure in figures)


if __name__ == "__main__":
    main()

"""INT8 by class of arithmetic: how much faster than FP32 it is in each, and which classes answer differently.

    python -m benchmarks.arithmetic [--seconds 20] [--batches 1,8]
    python -m benchmarks.arithmetic --no-times     answers alone, as on a machine that is not quiet, or emulated

A network of ResNet-50's size with random weights, written here, so that beside the package only `onnx`, `onnxruntime`
and `openvino` are needed. It runs in the class of this processor, and through OpenVINO in every lower one as well, by
oneDNN's own switch (ONEDNN_MAX_CPU_ISA), each in a process of its own. ONNX Runtime has no such switch. Graphs are the
same bytes on every machine: answers of two machines are alike bit for bit, or they are not.

Writes benchmarks/results/arithmetic.json and arithmetic.md. What other machines measured there stays.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from benchmarks.pairs import times
from regiolect.contracts import (
    Arithmetic,
    BatchProfile,
    BuildRequest,
    Performance,
    Precision,
    Target,
    TensorRange,
    TensorSpec,
)
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.engines.openvino.processor import CAPS
from regiolect.graphs import protos, quantize
from regiolect.host.cpu import cpu_fingerprint
from regiolect.integrity import digest_bytes, write_atomic
from regiolect.storage import LocalStore

RESULTS = Path(__file__).parent / "results"
BACKENDS = ("openvino", "onnxruntime")
CLASSES = (Arithmetic.SATURATING, Arithmetic.VNNI, Arithmetic.AMX)
# What each cap needs of a processor, to be another one than the next lower.
SWITCHES = {
    "AVX2": "avx2",
    "AVX512_CORE": "avx512f",
    "AVX2_VNNI": "avx_vnni",
    "AVX512_CORE_VNNI": "avx512_vnni",
    "AVX512_CORE_AMX": "amx_int8",
}
AS_IT_IS = "as it is"
# Small images for answers: an emulator takes them too.
SIDE, ANSWERED = 64, 4
Row = dict[str, Any]


def main() -> None:
    """Measure, print tables, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="measuring time per backend, class and batch")
    parser.add_argument("--batches", default="1,8", help="batch sizes, separated by commas")
    parser.add_argument("--no-times", action="store_true", help="compare answers alone")
    parser.add_argument("--one", metavar="FILE", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    batches = [] if arguments.no_times else [int(batch) for batch in arguments.batches.split(",")]
    if arguments.one:
        rows = measured(("openvino",), os.environ[CAPS[0]], batches, arguments.seconds)
        arguments.one.write_text(json.dumps(rows))
        return
    cpu = cpu_fingerprint()
    rows = measured(BACKENDS, AS_IT_IS, batches, arguments.seconds)
    flags = cpu["isa"].split()
    for cap, needed in SWITCHES.items():
        # With AVX2 alone there is nothing below.
        if needed in flags and len(flags) > 1:
            rows += capped(cap, sys.argv[1:])
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "arithmetic.json"
    others = json.loads(path.read_text())["machines"] if path.is_file() else []
    kept = [machine for machine in others if machine["cpu"] != cpu]
    machines = sorted([*kept, {"cpu": cpu, "rows": rows}], key=lambda machine: sorted(machine["cpu"].items()))
    write_atomic(path, (json.dumps({"machines": machines}, indent=2) + "\n").encode())
    write_atomic(RESULTS / "arithmetic.md", as_tables(machines).encode())
    print(as_tables(machines))


def capped(cap: str, arguments: Sequence[str]) -> list[Row]:
    """The same through OpenVINO in a process with that cap. What ends it is a row too: not every mixture works."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.arithmetic", *arguments, "--one", str(told)]
        done = subprocess.run(command, env={**os.environ, CAPS[0]: cap}, check=False)
        if done.returncode:
            return [{"backend": "openvino", "cap": cap, "ended": done.returncode}]
        rows: list[Row] = json.loads(told.read_text())
        return rows


def measured(names: Iterable[str], cap: str, batches: Sequence[int], seconds: float) -> list[Row]:
    """A row per backend: its class here, what each graph answers, and its times at each batch."""
    random = np.random.default_rng(0)
    small = random.random((ANSWERED, 3, SIDE, SIDE), np.float32)
    model = protos.normalized(resnet50())
    ranges = ranges_of(model, small)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        for name in names:
            library = backend(name)
            recipes = {
                "8-bit weights": library.recipe(Precision.INT8, Arithmetic.VNNI),
                "pairs in int16": library.recipe(Precision.INT8, Arithmetic.VNNI).model_copy(
                    update={"pairs_in_int16": True}
                ),
            }
            shipped = library.recipe_here(Precision.INT8)
            graphs = {kind: quantize.quantized(model, recipe, ranges) for kind, recipe in recipes.items()}
            wide = opened(name, model, Precision.FP32, store)
            engines = {kind: opened(name, graph, Precision.INT8, store) for kind, graph in graphs.items()}
            exact = wide.run({"image": small})["logits"]
            answers = {kind: engine.run({"image": small})["logits"] for kind, engine in engines.items()}
            row: Row = {"backend": name, "version": library.version(), "cap": cap, "class": library.arithmetic()}
            row["recipe"] = next(kind for kind, recipe in recipes.items() if recipe == shipped)
            row["answers"] = {
                "FP32": {"digest": digest_bytes(exact.tobytes())},
                **{
                    kind: {
                        "graph": digest_bytes(protos.to_bytes(graphs[kind])),
                        "digest": digest_bytes(found.tobytes()),
                        "loss_db": _loss_db(found, exact),
                    }
                    for kind, found in answers.items()
                },
            }
            images = {batch: random.random((batch, 3, 224, 224), np.float32) for batch in batches}
            narrow = engines[row["recipe"]]
            row["times"] = [times(narrow, wide, {"image": each}, seconds) for each in images.values()]
            rows.append(row)
    return rows


def opened(name: str, graph: ModelProto, precision: Precision, store: LocalStore) -> Engine:
    """An engine of a graph, as a release builds and loads it."""
    request = BuildRequest(
        model="resnet50",
        region="bench",
        target=Target(name="benchmark", backend=name),
        precision=precision,
        graph=store.put_bytes(protos.to_bytes(graph)),
        inputs=(TensorSpec(name="image", shape=("batch", 3, "height", "width")),),
        outputs=("logits",),
        profile=BatchProfile(),
        shapes={size: {"min": SIDE, "opt": 224, "max": 224} for size in ("height", "width")},
        performance=Performance.LATENCY,
        policy=digest_bytes(b"benchmark"),
        build_key=digest_bytes(b"benchmark"),
    )
    library = backend(name)
    return library.load(library.build(request, store), store)


def ranges_of(model: ModelProto, images: NDArray[np.float32]) -> dict[str, TensorRange]:
    """Ranges of every tensor, rounded up so that the last bits of a processor's FP32 do not move a scale."""
    from regiolect.engines.onnxruntime.session import open_session

    shown = ModelProto()
    shown.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output]
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found = dict(zip(names, open_session(shown.SerializeToString()).run(names, {"image": images}), strict=True))
    ranges = {}
    for name, value in {"image": images, **found}.items():
        lower, upper = (
            math.copysign(_rounded_up(abs(each)), each) for each in (float(value.min()), float(value.max()))
        )
        ranges[name] = TensorRange(threshold=max(-lower, upper, 0.0), minimum=lower, maximum=upper)
    return ranges


def _rounded_up(magnitude: float) -> float:
    """The next power of the fourth root of two."""
    return 2.0 ** (math.ceil(4 * math.log2(magnitude)) / 4) if magnitude > 0 else 0.0


def _loss_db(found: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """Power of the difference over that of the FP32 answer."""
    lost = np.square(found.astype(np.float64) - exact).sum()
    return round(float(10 * np.log10(lost / np.square(exact.astype(np.float64)).sum())), 2)


def resnet50() -> ModelProto:
    """ResNet-50 (He et al., 2015), normalizations folded, with random weights: the same bytes everywhere."""
    random = np.random.default_rng(50)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, NDArray[np.float32]] = {}

    def convolution(x: str, made: int, channels: int, size: int, stride: int = 1, gain: float = 1.0) -> str:
        y = f"conv{len(nodes)}"
        # Tails as trained weights have them, heavier than a normal distribution's.
        kernel = random.standard_t(5, (made, channels, size, size)) * gain / np.sqrt(channels * size * size)
        weights[f"{y}.w"] = kernel.astype(np.float32)
        weights[f"{y}.b"] = (random.normal(size=made) * 0.1).astype(np.float32)
        nodes.append(helper.make_node("Conv", [x, f"{y}.w", f"{y}.b"], [y], strides=[stride] * 2, pads=[size // 2] * 4))
        return y

    def then(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"{kind.lower()}{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    x = then("Relu", convolution("image", 64, 3, 7, 2))
    x, channels = then("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for width, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for stride in (first, *[1] * (blocks - 1)):
            y = then("Relu", convolution(x, width, channels, 1))
            y = convolution(then("Relu", convolution(y, width, width, 3, stride)), 4 * width, width, 1, gain=0.5)
            side = x if channels == 4 * width else convolution(x, 4 * width, channels, 1, stride)
            x, channels = then("Relu", then("Add", y, side)), 4 * width
    flat = then("Flatten", then("GlobalAveragePool", x))
    weights["w"] = (random.standard_t(5, (1000, channels)) / np.sqrt(channels)).astype(np.float32)
    weights["b"] = np.zeros(1000, np.float32)
    nodes.append(helper.make_node("Gemm", [flat, "w", "b"], ["logits"], transB=1))
    graph = helper.make_graph(
        nodes,
        "resnet50",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def as_tables(machines: Sequence[Mapping[str, Any]]) -> str:
    """Speed by class, and which classes answer alike, as Markdown."""
    rows = [{**row, "cpu": machine["cpu"]} for machine in machines for row in machine["rows"]]
    lines = [
        "ResNet-50-sized network, random weights. INT8 by the recipe of backend and class over FP32 of the same "
        "backend, both in one process, interleaved, medians. *capped*: OpenVINO below the processor's own class, by "
        "ONEDNN_MAX_CPU_ISA, FP32 as well; ONNX Runtime cannot be capped.",
        "",
        f"| backend | batch | {' | '.join(CLASSES)} |",
        "| " + " | ".join(["---"] * (2 + len(CLASSES))) + " |",
    ]
    batches = sorted({time["batch"] for row in rows for time in row.get("times", ())}) or [1]
    for name in BACKENDS:
        for batch in batches:
            cells = [_speed([row for row in rows if row["backend"] == name], batch, kind) for kind in CLASSES]
            lines.append(f"| {name} | {batch} | {' | '.join(cells)} |")
    lines += [
        "",
        "Answers, by the bits of all logits: the same letter, the same bits, in a column of one backend. Beside it the "
        "power of the difference from FP32 over that of FP32, in dB.",
        "",
        "| backend | processor | kernels | class | FP32 | 8-bit weights | pairs in int16 | recipe |",
        "| " + " | ".join(["---"] * 8) + " |",
    ]
    letters: dict[tuple[str, str, str], str] = {}
    for name in BACKENDS:
        for row in (row for row in rows if row["backend"] == name):
            told = [name, row["cpu"]["cpu"], row["cap"]]
            if "ended" in row:
                lines.append(f"| {' | '.join(told)} | | process ended: {row['ended']} | | | |")
                continue
            cells = []
            for kind, answer in row["answers"].items():
                seen = {key for key in letters if key[:2] == (name, kind)}
                letter = letters.setdefault((name, kind, answer["digest"]), chr(ord("A") + len(seen)))
                cells.append(letter + (f" ({answer['loss_db']} dB)" if "loss_db" in answer else ""))
            lines.append(f"| {' | '.join([*told, row['class'] or 'unknown', *cells, row['recipe']])} |")
    return "\n".join(lines) + "\n"


def _speed(rows: Iterable[Mapping[str, Any]], batch: int, kind: Arithmetic) -> str:
    """The measured figures of a class, or else those of machines above that were capped to it."""
    found = [
        (row["cap"], time["ratio"], row["cpu"]["cpu"])
        for row in rows
        if row.get("class") == kind
        for time in row["times"]
        if time["batch"] == batch
    ]
    measured_here = [f"{ratio}x measured ({cpu})" for cap, ratio, cpu in found if cap == AS_IT_IS]
    return ", ".join(measured_here or [f"{ratio}x capped to {cap} ({cpu})" for cap, ratio, cpu in found]) or (
        "not measured"
    )


if __name__ == "__main__":
    main()

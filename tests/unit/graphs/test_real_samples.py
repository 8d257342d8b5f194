"""Typed graphs of the fashion example answer as its FP32 graph does, on a region's own samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from safetensors.numpy import load_file

from examples.fashion import MODEL, WEIGHTS
from regiolect.contracts import (
    BatchProfile,
    BuildRequest,
    ExportedModel,
    Performance,
    Precision,
    Split,
    Target,
    TensorRange,
    TensorSpec,
)
from regiolect.data import model_inputs
from regiolect.engines.catalog import backend, names
from regiolect.graphs import kept_wide, operators_of, protos, scan_graph, typed_graph
from regiolect.integrity import digest_bytes
from regiolect.precision import FLOAT_RECIPES
from regiolect.storage import LocalStore

REGION = "eu"
# Root of the mean squared difference over that of the FP32 logits. Measured: 0.0005 and at most 0.025.
BOUNDS = {Precision.FP16: 0.001, Precision.INT8: 0.05}


@dataclass(frozen=True)
class Fashion:
    store: LocalStore
    model: ExportedModel
    images: NDArray[np.float32]
    ranges: dict[str, TensorRange]
    logits: NDArray[np.float32]


def fashion_graph() -> onnx.ModelProto:
    """The network of examples/fashion/model.py, batch norms folded; an exporter needs torch and ten times as long."""
    held = load_file(WEIGHTS)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, NDArray[np.float32]] = {
        "classifier.weight": held["classifier.weight"],
        "classifier.bias": held["classifier.bias"],
        "axes": np.asarray([2, 3]),
    }

    def normalized(x: str, layer: str, norm: str, stride: int = 1) -> str:
        factor = held[f"{norm}.weight"] / np.sqrt(held[f"{norm}.running_var"] + 1e-5)
        kernel = held[f"{layer}.weight"]
        weights[f"{layer}.w"] = (kernel * factor[:, None, None, None]).astype(np.float32)
        weights[f"{layer}.b"] = (held[f"{norm}.bias"] - held[f"{norm}.running_mean"] * factor).astype(np.float32)
        pads = [kernel.shape[-1] // 2] * 4
        inputs = [x, f"{layer}.w", f"{layer}.b"]
        nodes.append(helper.make_node("Conv", inputs, [layer], strides=[stride] * 2, pads=pads))
        return layer

    def then(kind: str, *inputs: str, **attributes: int) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"{inputs[0]}.{kind.lower()}"], **attributes))
        return nodes[-1].output[0]

    x = then("Relu", normalized("image", "stem.0", "stem.1"))
    for block, stride in enumerate((1, 2, 2)):
        place = f"blocks.{block}"
        y = then("Relu", normalized(x, f"{place}.conv1", f"{place}.norm1", stride))
        y = normalized(y, f"{place}.conv2", f"{place}.norm2")
        side = x if stride == 1 else normalized(x, f"{place}.shortcut.0", f"{place}.shortcut.1", stride)
        x = then("Relu", then("Add", y, side))
    pooled = then("ReduceMean", x, "axes", keepdims=0)
    nodes.append(helper.make_node("Gemm", [pooled, "classifier.weight", "classifier.bias"], ["logits"], transB=1))
    graph = helper.make_graph(
        nodes,
        "fashion",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.fixture(scope="module")
def fashion(keep_in, ranges_of, run, tmp_path_factory) -> Fashion:
    samples = MODEL.data[REGION].load(Split.CALIBRATION).take(slice(0, 64))
    images = model_inputs(samples, MODEL.preprocessing)["image"]
    graph = fashion_graph()
    logits = run(graph, {"image": images})["logits"]
    assert (logits.argmax(axis=1) == samples.targets).mean() > 0.8, "it is the trained network"
    store = LocalStore(tmp_path_factory.mktemp("fashion"))
    return Fashion(store, keep_in(store, graph), images, ranges_of(graph, {"image": images}), logits)


def difference(fashion: Fashion, run, graph) -> float:
    found = run(fashion.store.path_of(graph).read_bytes(), {"image": fashion.images})["logits"]
    return relative(found, fashion.logits)


def relative(found, exact) -> float:
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_an_int8_engine_answers_as_fp32_in_this_class(fashion, table_of, name):
    table = table_of(fashion.model, fashion.ranges, region=REGION)
    recipe = backend(name).recipe_here(Precision.INT8)
    graph = typed_graph(fashion.model, REGION, Precision.INT8, recipe, table, fashion.store)
    request = BuildRequest(
        model="fashion",
        region=REGION,
        target=Target(name="here", backend=name),
        precision=Precision.INT8,
        graph=graph,
        inputs=(TensorSpec(name="image", shape=("batch", 1, 28, 28)),),
        outputs=("logits",),
        profile=BatchProfile(),
        performance=Performance.LATENCY,
        policy=digest_bytes(b"policy"),
        build_key=digest_bytes(b"key"),
    )
    engine = backend(name).load(backend(name).build(request, fashion.store), fashion.store)
    found = engine.run({"image": fashion.images})["logits"]
    assert relative(found, fashion.logits) < BOUNDS[Precision.INT8]
    assert (found.argmax(axis=1) == fashion.logits.argmax(axis=1)).mean() > 0.98


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8])
@pytest.mark.parametrize("name", names())
def test_each_backends_graph_agrees_with_fp32(fashion, run, table_of, name, precision):
    table = table_of(fashion.model, fashion.ranges, region=REGION)
    recipe = backend(name).recipe_here(precision)
    graph = typed_graph(fashion.model, REGION, precision, recipe, table, fashion.store)
    assert 0 < difference(fashion, run, graph) < BOUNDS[precision]
    counts = scan_graph(fashion.store.path_of(graph))
    assert counts[precision] > 0 and not kept_wide(fashion.model, table, fashion.store)
    if precision is Precision.FP16:
        assert counts == {Precision.FP32: 0, Precision.FP16: sum(counts.values()), Precision.INT8: 0}


@pytest.mark.parametrize("name", names())
def test_wider_operators_bring_an_int8_graph_nearer_to_fp32(fashion, run, table_of, name):
    table = table_of(fashion.model, fashion.ranges, region=REGION)
    recipe = backend(name).recipe_here(Precision.INT8)
    operators = operators_of(fashion.model, recipe, fashion.store)
    typed = [
        typed_graph(fashion.model, REGION, Precision.INT8, recipe, table, fashion.store, operators[:count])
        for count in (0, len(operators) // 2, len(operators) - 1)
    ]
    counts = [scan_graph(fashion.store.path_of(graph)) for graph in typed]
    assert counts[0][Precision.INT8] > counts[1][Precision.INT8] > counts[2][Precision.INT8] == 1
    assert counts[2][Precision.FP16 if recipe.remainder is Precision.FP16 else Precision.FP32] > 0
    losses = [difference(fashion, run, graph) for graph in typed]
    assert losses[0] > losses[1] > losses[2]


def test_wider_operators_of_an_fp16_graph_are_float32(fashion, run, table_of):
    table = table_of(fashion.model, fashion.ranges, region=REGION)
    recipe = FLOAT_RECIPES[Precision.FP16]
    made = tuple(node.output[0] for node in protos.load(fashion.store.path_of(fashion.model.graph)).graph.node)
    some = typed_graph(fashion.model, REGION, Precision.FP16, recipe, table, fashion.store, made[:5])
    every = typed_graph(fashion.model, REGION, Precision.FP16, recipe, table, fashion.store, made)
    assert scan_graph(fashion.store.path_of(some))[Precision.FP32] > 0
    assert scan_graph(fashion.store.path_of(every))[Precision.FP16] == 0
    assert difference(fashion, run, every) < 1e-6

"""What an INT8 engine is asked wherever it is loaded is made from its graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import DimensionProfile, Precision, TensorSpec
from regiolect.engines.catalog import backend
from regiolect.engines.selftest import Probes
from regiolect.errors import NonFiniteOutputs
from regiolect.evaluate.probes import keep_probes, quantized_ranges
from tests.unit.evaluate.conftest import FEATURES, HEAD, dense, quantized

SCALE = 0.25


@pytest.fixture
def seen() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).uniform(-2, 3, (50, FEATURES)).astype(np.float32)}


def kept(lab, seen, proto=None, precision=Precision.INT8):
    model = lab.exported(lab.spec())
    artifact = lab.engine(model, proto or quantized(SCALE), precision=precision)
    engine = backend("onnxruntime").load(artifact, lab.store)
    blob = keep_probes(engine, model, seen, lab.store)
    return None if blob is None else Probes.from_bytes(lab.store.path_of(blob).read_bytes())


def test_they_reach_both_ends_of_what_the_graph_quantizes_and_leave_it_nowhere(lab, seen) -> None:
    values = kept(lab, seen).inputs["x"]
    assert values.shape[1:] == (FEATURES,) and values.dtype == np.float32
    assert (values.min(), values.max()) == (-128 * SCALE, 127 * SCALE)
    at_the_ends = np.isin(values, (-128 * SCALE, 127 * SCALE)).all(axis=1)
    assert at_the_ends.any() and not at_the_ends.all()


def test_they_tell_what_the_engine_answered_and_how_far_that_is_from_the_reference(lab, seen) -> None:
    probes = kept(lab, seen)
    exact = probes.inputs["x"] @ HEAD
    own = np.sqrt(np.square(probes.answers["y"] - exact).mean(axis=1))
    np.testing.assert_allclose(probes.tolerances["y"], np.maximum(own, np.median(own)), rtol=1e-3, atol=1e-5)
    assert (probes.tolerances["y"] > 1e-3).all()


def test_the_same_engine_has_the_same_probes(lab, seen) -> None:
    assert kept(lab, seen).to_bytes() == kept(lab, seen).to_bytes()


def test_of_an_input_that_is_not_quantized_as_it_comes_the_samples_tell_the_range(lab, seen) -> None:
    values = kept(lab, seen, dense()).inputs["x"]
    assert (values.min(), values.max()) == (seen["x"].min(), seen["x"].max())


def test_a_wider_engine_has_none(lab, seen) -> None:
    assert kept(lab, seen, dense(), Precision.FP32) is None


def test_an_input_that_is_only_moved_before_it_is_quantized_is_followed(lab, tmp_path) -> None:
    moved = quantized(SCALE)
    moved.graph.node.insert(0, helper.make_node("Identity", ["x"], ["same"]))
    moved.graph.node[1].input[0] = "same"
    (tmp_path / "moved.onnx").write_bytes(moved.SerializeToString())
    assert quantized_ranges(tmp_path / "moved.onnx") == {"x": (-128 * SCALE, 127 * SCALE)}


def test_a_model_that_answers_with_infinity_alone_cannot_be_asked(lab, seen) -> None:
    model = lab.exported(lab.spec())
    endless = quantized(SCALE)
    endless.graph.node[-1].output[0] = "before"
    endless.graph.node.append(helper.make_node("Log", ["nothing"], ["minus"]))
    endless.graph.node.append(helper.make_node("Add", ["before", "minus"], ["y"]))
    endless.graph.initializer.append(numpy_helper.from_array(np.float32(0), "nothing"))
    engine = backend("onnxruntime").load(lab.engine(model, endless, precision=Precision.INT8), lab.store)
    with pytest.raises(NonFiniteOutputs, match="for each of them"):
        keep_probes(engine, model, seen, lab.store)


CHANNELS = 3
BUCKETS = DimensionProfile(min=8, opt=20, max=64, buckets=(16, 32, 64))
NEXT_BUCKET = DimensionProfile(min=8, opt=32, max=64)


def wide(head: str, *, packed: bool) -> onnx.ModelProto:
    """x (batch, 3, width) -> a convolution over the width -> `head`: "map", as wide as x, or "mean", (batch, 4, 1)."""
    weights = np.random.default_rng(5).normal(size=(4, CHANNELS, 3)).astype(np.float32)
    held = {"w": weights, "s": np.float32(SCALE), "z": np.int8(0)}
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])] if packed else []
    nodes += [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"])] if packed else []
    nodes.append(helper.make_node("Conv", ["d" if packed else "x", "w"], ["c"], pads=[1, 1]))
    nodes.append(helper.make_node("Relu" if head == "map" else "GlobalAveragePool", ["c"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", CHANNELS, "width"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, "width" if head == "map" else 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items() if packed or name == "w"],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("head", ["map", "mean"])
def test_they_have_the_sizes_that_buckets_pad_to_so_that_no_padding_is_tolerated(lab, head, name) -> None:
    """The engine was given zeros that its reference was not: outputs of other sizes, or a tolerance that grew by it."""
    spec = lab.spec(wide(head, packed=False), inputs=(TensorSpec(name="x", shape=("batch", CHANNELS, "width")),))
    model, seen = lab.exported(spec), {"x": np.ones((4, CHANNELS, 20), np.float32)}

    def probes(profile: DimensionProfile) -> Probes:
        artifact = lab.engine(
            model, wide(head, packed=True), precision=Precision.INT8, backend=name, shapes={"width": profile}
        )
        blob = keep_probes(backend(name).load(artifact, lab.store), model, seen, lab.store)
        return Probes.from_bytes(lab.store.path_of(blob).read_bytes())

    padded, plain = probes(BUCKETS), probes(NEXT_BUCKET)
    np.testing.assert_allclose(padded.tolerances["y"], plain.tolerances["y"], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(padded.inputs["x"], plain.inputs["x"])
    assert padded.inputs["x"].shape[1:] == (CHANNELS, 32)

"""An .onnx file that arrives quantized keeps what it is, and is compared with its original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.data import Samples
from regiolect.errors import InvalidModelSpec, InvalidOnnx
from regiolect.export import export_model
from tests.unit.export.onnx_files import HEAD, NORM, conv_net, operators, outputs, samples_of_conv_net


@pytest.fixture
def samples() -> Samples:
    return samples_of_conv_net()


def quantized(opset: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    node, rng = helper.make_node, np.random.default_rng(6)
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=0),
        node("Conv", ["xd", "wd"], ["c"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", *NORM], ["b"]),
        node("Relu", ["b"], ["r"]),
        node("QuantizeLinear", ["r", "sr", "zx"], ["rq"]),
        node("DequantizeLinear", ["rq", "sr", "zx"], ["rd"]),
        node("ReduceMax" if opset < 18 else "GlobalMaxPool", ["rd"], ["y"], **({"axes": [2, 3]} if opset < 18 else {})),
    ]
    values = {
        "w": rng.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8),
        "sw": (rng.random(4) / 50 + 0.01).astype(np.float32),
        "zw": np.zeros(4, np.int8),
        "sx": np.float32(0.03),
        "zx": np.int8(0),
        "sr": np.float32(0.03),
    }
    floats = {name: value.astype(np.float32) for name, value in NORM.items()}
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 1, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in {**values, **floats}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), values


def fp32_original() -> onnx.ModelProto:
    """What `quantized` was made from, but for rounding: the same weights, scaled back, and no Q/DQ nodes."""
    model, values = quantized(20)
    nodes = [node for node in model.graph.node if "Linear" not in node.op_type]
    nodes[0].input[:] = ["x", "w"]
    nodes[-1].input[:] = ["r"]
    kept = [tensor for tensor in model.graph.initializer if tensor.name in NORM]
    weight = (values["w"] * values["sw"].reshape(-1, 1, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        nodes, "main", model.graph.input, model.graph.output, [*kept, numpy_helper.from_array(weight, "w")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)


@pytest.fixture
def reference_file(tmp_path: Path) -> Path:
    path = tmp_path / "fp32.onnx"
    path.write_bytes(fp32_original().SerializeToString())
    return path


def test_quantized_file_alone_is_refused(spec_of, store, samples):
    with pytest.raises(InvalidModelSpec, match="cannot be its own reference") as failure:
        export_model(spec_of(quantized(20)[0]), store, samples)
    assert "5 quantized nodes" in failure.value.found
    assert "reference=" in failure.value.remedy
    assert not store.root.exists()


def test_quantized_file_is_compared_with_its_original(spec_of, store, samples, reference_file):
    model = export_model(spec_of(quantized(20)[0], reference=reference_file), store, samples)
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(operators(onnx.load(store.path_of(model.reference))))
    images = samples.inputs["x"]
    wanted = outputs(reference_file.read_bytes(), images)
    np.testing.assert_allclose(outputs(store.path_of(model.reference), images), wanted, atol=1e-4)
    # The original answers otherwise than the quantized model, so the two cannot have been mixed up.
    assert np.abs(outputs(store.path_of(model.graph), images) - wanted).max() > 1e-3


def weights_in_eight_bits() -> onnx.ModelProto:
    """Constant weights behind a DequantizeLinear, activations in floats: clean-up must not fold that out of sight."""
    model = conv_net()
    integers = np.clip(np.round(HEAD * 40), -127, 127).astype(np.int8)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(integers, "h8"))
    model.graph.initializer.extend([numpy_helper.from_array(np.float32(1 / 40), "sh")])
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["h8", "sh"], ["h"]))
    return model


def integer_head() -> onnx.ModelProto:
    """A MatMulInteger, with nothing but casts around it."""
    extra = (
        helper.make_node("Cast", ["m"], ["m8"], to=TensorProto.INT8),
        helper.make_node("MatMulInteger", ["m8", "eye"], ["y32"]),
        helper.make_node("Cast", ["y32"], ["y"], to=TensorProto.FLOAT),
    )
    model = conv_net(extra=extra)
    model.graph.initializer.extend([numpy_helper.from_array(np.eye(3, dtype=np.int8), "eye")])
    return model


@pytest.mark.parametrize("make", [weights_in_eight_bits, integer_head])
def test_whatever_is_quantized_in_a_file_is_noticed(spec_of, store, samples, make):
    with pytest.raises(InvalidModelSpec, match="1 quantized node in the model"):
        export_model(spec_of(make()), store, samples)


def test_a_reference_that_is_quantized_too_is_refused(spec_of, store, samples, tmp_path):
    path = tmp_path / "also.onnx"
    path.write_bytes(quantized(20)[0].SerializeToString())
    with pytest.raises(InvalidModelSpec, match=r"also\.onnx.*before it was quantized"):
        export_model(spec_of(quantized(20)[0], reference=path), store, samples)
    assert not store.root.exists()


def test_a_reference_has_to_pass_the_same_checks(spec_of, store, samples, reference_file):
    reference_file.write_bytes(reference_file.read_bytes()[:300])
    with pytest.raises(InvalidOnnx, match=r"fp32\.onnx"):
        export_model(spec_of(quantized(20)[0], reference=reference_file), store, samples)
    other = fp32_original()
    other.graph.input[0].name = other.graph.node[0].input[0] = "picture"
    reference_file.write_bytes(other.SerializeToString())
    with pytest.raises(InvalidModelSpec, match="picture"):
        export_model(spec_of(quantized(20)[0], reference=reference_file), store, samples)
    assert not store.root.exists()


def test_a_reference_that_nothing_needs_is_refused(spec_of, store, samples, reference_file):
    with pytest.raises(InvalidModelSpec, match="is not quantized"):
        export_model(spec_of(conv_net(), reference=reference_file), store, samples)
    assert not store.root.exists()


@pytest.mark.parametrize("opset", [13, 20])
def test_quantized_file_keeps_its_nodes_scales_and_integers(spec_of, store, samples, opset, reference_file):
    original, values = quantized(opset)
    model = export_model(spec_of(original, reference=reference_file), store, samples)
    graph = onnx.load(store.path_of(model.graph))
    found = operators(graph)
    assert (found.count("QuantizeLinear"), found.count("DequantizeLinear")) == (2, 3)
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    for name, value in values.items():
        assert kept[name].dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(kept[name], value)
    assert model.opset == 20
    assert model.parity is not None
    assert model.parity.worst_error == 0

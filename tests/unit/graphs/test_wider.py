"""Operators that are left out of INT8, and the twins that say which ones should be."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from regiolect.contracts import Precision, TensorRange
from regiolect.errors import InvalidSetting, UnsupportedOperator
from regiolect.graphs import half, operators_of, overflow, protos, quantize, scan_graph, typed_graph
from regiolect.graphs.scan import scan
from regiolect.precision import QUANTIZED_OPERATORS, Recipe

S8_HALF = Recipe(activation="int8", operators=QUANTIZED_OPERATORS, residual_add=True, remainder=Precision.FP16)
U8 = Recipe(activation="uint8", operators=QUANTIZED_OPERATORS, residual_add=True, integer_bias=True)
FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


def quantizers(graph):
    return [node.input[0] for node in graph.graph.node if node.op_type == "QuantizeLinear"]


def node_of(graph, output):
    return protos.producers(graph.graph)[output]


@pytest.fixture
def net(residual_net, images, ranges_of):
    """A normalized network and the ranges of all its tensors."""
    return protos.normalized(residual_net()), ranges_of(residual_net(), {"x": images})


def test_operators_are_named_by_their_first_outputs_in_graph_order(residual_net, keep, store):
    model = keep(residual_net())
    assert operators_of(model, U8, store) == ("conv1", "conv2", "sum", "y")
    plain = U8.model_copy(update={"residual_add": False})
    assert operators_of(model, plain, store) == ("conv1", "conv2", "y")


@pytest.mark.arithmetic
def test_a_wider_operator_keeps_its_inputs_and_what_only_it_reads_gets_no_pair(net, run, images):
    model, ranges = net
    graph = quantize.quantized(model, U8, ranges, {"conv1"})
    protos.check(graph)
    assert list(node_of(graph, "conv1").input) == ["x", "w1", "b1"]
    assert quantizers(graph) == ["relu1", "conv2", "flat"]
    assert {"w1_quantized", "w1_scale", "x_scale"}.isdisjoint(protos.constants(graph.graph))
    assert np.abs(run(graph, {"x": images})["y"] - run(model, {"x": images})["y"]).max() < 0.05


def test_a_tensor_that_others_read_quantized_keeps_its_pair(net):
    model, ranges = net
    graph = quantize.quantized(model, U8, ranges, {"conv2"})
    assert list(node_of(graph, "conv2").input) == ["relu1", "w2", "b2"]
    assert quantizers(graph) == ["x", "flat"], "nor is the addition quantized, which was to be fused with it"
    graph = quantize.quantized(model, U8, ranges, {"sum"})
    assert list(node_of(graph, "sum").input) == ["conv2", "relu1"]
    assert quantizers(graph) == ["x", "relu1", "flat"], "relu1 is still read by a convolution"


def test_with_every_operator_wider_nothing_is_left_to_quantize(net):
    model, ranges = net
    with pytest.raises(UnsupportedOperator, match="none beside the 4 that are left out"):
        quantize.quantized(model, U8, ranges, quantize.quantizable(model, U8))


def test_a_name_that_no_operator_has_is_an_error(residual_net, keep, store, images, ranges_of, table_of):
    model = keep(residual_net())
    table = table_of(model, ranges_of(residual_net(), {"x": images}))
    for wrong in ("conv9", "w1", "x"):
        with pytest.raises(InvalidSetting, match=rf"found '{wrong}', which none of its 8 operators has.*operators_of"):
            typed_graph(model, "na", INT8, U8, table, store, ["conv1", wrong])


def test_the_order_of_the_names_does_not_matter(residual_net, keep, store, images, ranges_of, table_of):
    model = keep(residual_net())
    table = table_of(model, ranges_of(residual_net(), {"x": images}))
    there, back = (
        typed_graph(model, "na", INT8, S8_HALF, table, store, names) for names in (("conv1", "y"), ("y", "conv1"))
    )
    assert there == back


# ------------------------------------------------------------------------------------------- with a FP16 remainder


def test_a_wider_operator_becomes_float16_beside_int8_ones(
    residual_net, keep, store, images, ranges_of, table_of, run, trt_plan_size
):
    model = keep(residual_net())
    table = table_of(model, ranges_of(residual_net(), {"x": images}))
    plans = {}
    for wider in ((), ("conv1",), ("conv2",), ("conv1", "conv2", "sum")):
        data = store.path_of(typed_graph(model, "na", INT8, S8_HALF, table, store, wider)).read_bytes()
        plans[wider] = trt_plan_size(data, (3, 16, 16))
        found, reference = run(data, {"x": images})["y"], run(residual_net(), {"x": images})["y"]
        assert np.abs(found - reference).max() < 0.03 * np.abs(reference).max()
    assert all(plans.values())
    counts = scan_graph(store.path_of(typed_graph(model, "na", INT8, S8_HALF, table, store, ["conv1"])))
    assert counts == {FP32: 0, FP16: 4, INT8: 3}


@pytest.mark.parametrize("wider", [(), ("conv2",)])
def test_what_overflows_stays_float32_beside_int8_and_float16_ones(
    residual_net, keep, store, images, ranges_of, table_of, run, run_as_typed, trt_plan_size, wider
):
    """conv2 makes some 40,000: it is float32 though its operands are int8, and so is all that reads it."""
    source = residual_net()
    for tensor in source.graph.initializer:
        if tensor.name in ("w2", "b2"):
            values = protos.numpy_helper.to_array(tensor) * np.float32(2e4)
            tensor.CopyFrom(protos.numpy_helper.from_array(values, tensor.name))
    model, ranges = keep(source), ranges_of(source, {"x": images})
    assert max(ranges["conv2"].maximum, -ranges["conv2"].minimum) > overflow.SAFE
    assert overflow.kept_wide(protos.normalized(source), ranges)[:2] == ("conv2", "sum")
    data = store.path_of(typed_graph(model, "na", INT8, S8_HALF, table_of(model, ranges), store, wider)).read_bytes()
    reference = run(source, {"x": images})["y"]
    for found in (run(data, {"x": images})["y"], run_as_typed(protos.onnx.load_from_string(data), {"x": images})):
        assert np.abs(found - reference).max() < 0.03 * np.abs(reference).max()
    assert trt_plan_size(data, (3, 16, 16)) > 0


def test_operands_of_an_int8_operator_have_its_type_without_a_cast_between(net):
    """A Cast behind a DequantizeLinear would hide the pattern that makes an integer kernel."""
    model, ranges = net
    graph = half.halved(quantize.quantized(model, S8_HALF, ranges), {"conv2"})
    protos.check(graph)
    made_by = protos.producers(graph.graph)
    for output in ("conv1", "conv2", "sum"):
        for name in made_by[output].input[:2]:
            assert made_by[name].op_type == "DequantizeLinear", (output, name)
    types = protos.tensor_types(protos.check(graph).graph)
    assert types["conv2"] == types["relu1_dequantized_wide"] == types["w2_dequantized"] == TensorProto.FLOAT
    assert types["conv1"] == types["relu1_dequantized"] == TensorProto.FLOAT16
    assert quantizers(graph) == ["x", "relu1", "conv2", "flat"], "one quantizer for both types of readers"


# ------------------------------------------------------------------------------------------- what comes quantized


def test_a_model_with_its_own_scales_keeps_them_in_wider_operators_too(net):
    model, ranges = net
    trained = protos.normalized(quantize.quantized(model, S8_HALF, ranges))
    assert quantize.quantizable(trained, U8) == ()
    again = quantize.quantized(trained, U8, {}, {"conv1", "y"})
    assert protos.to_bytes(again) == protos.to_bytes(trained)


def test_its_own_scales_stay_beside_operators_that_are_widened(net):
    model, ranges = net
    partly = protos.normalized(quantize.quantized(model, U8, ranges, {"conv2", "y"}))
    own = {node.output[0] for node in partly.graph.node}
    assert quantize.quantizable(partly, U8) == ("conv2", "sum", "y")
    graph = quantize.quantized(partly, U8, ranges, {"y"})
    assert own < {node.output[0] for node in graph.graph.node}
    assert list(node_of(graph, "y").input) == ["flat", "w3", "b3"]
    assert list(node_of(graph, "conv1").input) == list(node_of(partly, "conv1").input)


def test_an_operator_of_another_domain_stays_as_it_is_in_int8(make_model, run):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Gelu", ["h"], ["y"], domain="com.microsoft"),
    ]
    weights = {"w": np.eye(4, dtype=np.float32)}
    model = make_model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]}, weights)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    graph = quantize.quantized(protos.normalized(model), U8, {"x": TensorRange(threshold=2, minimum=-2, maximum=2)})
    assert quantizers(graph) == ["x"]
    x = np.random.default_rng(0).uniform(-2, 2, (3, 4)).astype(np.float32)
    assert np.abs(run(graph, {"x": x})["y"] - run(model, {"x": x})["y"]).max() < 0.05
    with pytest.raises(UnsupportedOperator):
        scan(graph)


# ------------------------------------------------------------------------------------------- twins


def test_twins_differ_from_their_operators_by_what_quantizing_them_alone_does(net, run, images):
    model, ranges = net
    graph, twins = quantize.with_twins(model, U8, ranges)
    protos.check(graph)
    for value in (name for twin in twins for name in (twin.output, twin.quantized)):
        if value not in {output.name for output in graph.graph.output}:
            graph.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    found = run(graph, {"x": images})
    assert [(twin.kind, twin.output) for twin in twins] == [
        ("Conv", "conv1"),
        ("Conv", "conv2"),
        ("Add", "sum"),
        ("Gemm", "y"),
    ]
    np.testing.assert_allclose(found["y"], run(model, {"x": images})["y"], atol=1e-6)
    names = set(quantize.quantizable(model, U8))
    for twin in twins:
        if twin.output == "sum":  # Where nothing quantized feeds it, it is not quantized itself.
            continue
        alone = quantize.quantized(model, U8, ranges, names - {twin.output})
        alone.graph.output.append(helper.make_tensor_value_info(twin.output, TensorProto.FLOAT, None))
        if twin.output == "y":
            del alone.graph.output[1:]
        expected = run(alone, {"x": images})[twin.output]
        np.testing.assert_allclose(found[twin.quantized], expected, atol=2e-5)
        assert np.abs(found[twin.quantized] - found[twin.output]).max() > 1e-4

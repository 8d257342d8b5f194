from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import Precision, TensorRange
from regiolect.engines.catalog import backend
from regiolect.errors import InvalidOnnx, MissingThreshold, UnsupportedOperator
from regiolect.graphs import half, protos, quantize
from regiolect.graphs.scan import scan
from regiolect.precision import QUANTIZED_OPERATORS, Recipe

S8 = Recipe(activation="int8", operators=QUANTIZED_OPERATORS)
U8 = Recipe(activation="uint8", operators=QUANTIZED_OPERATORS)
S8_RESIDUAL = S8.model_copy(update={"residual_add": True})
U8_RESIDUAL = U8.model_copy(update={"residual_add": True})
# What OpenVINO's kernels need in this process.
PAIRS_IN_INT16 = backend("openvino").recipe_here(Precision.INT8).pairs_in_int16
S8_HALF = S8_RESIDUAL.model_copy(update={"remainder": Precision.FP16})


def quantized(model, recipe, ranges):
    result = quantize.quantized(protos.normalized(model), recipe, ranges)
    protos.check(result)
    return result


def constant(model, name):
    return numpy_helper.to_array(protos.constants(model.graph)[name])


def nodes(model, kind):
    return [node for node in model.graph.node if node.op_type == kind]


def weight_arrays(model):
    """int8 weights as (packed values, scales, axis or None), by the operator's name that reads them."""
    made_by = protos.producers(model.graph)
    found = {}
    for node in model.graph.node:
        if node.op_type in QUANTIZED_OPERATORS and len(made_by[node.input[1]].input) > 1:
            dequantize = made_by[node.input[1]]
            if dequantize.input[0] in made_by:
                continue
            axis = next((attribute.i for attribute in dequantize.attribute if attribute.name == "axis"), None)
            found[node.name] = (constant(model, dequantize.input[0]), constant(model, dequantize.input[1]), axis)
    return found


# ------------------------------------------------------------------------------------------------ real engines


@pytest.mark.arithmetic
@pytest.mark.parametrize("recipe", [S8, U8, S8_RESIDUAL, U8_RESIDUAL], ids=lambda recipe: str(recipe))
def test_onnxruntime_and_openvino_answer_nearly_as_in_fp32(residual_net, images, ranges_of, run, recipe):
    import openvino

    model = residual_net()
    recipe = recipe.model_copy(update={"pairs_in_int16": PAIRS_IN_INT16})
    data = protos.to_bytes(quantized(model, recipe, ranges_of(model, {"x": images})))
    reference = run(model, {"x": images})["y"]
    tolerance = 0.03 * np.abs(reference).max()

    assert 0 < np.abs(run(data, {"x": images})["y"] - reference).max() < tolerance
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.abs(compiled([images])[0] - reference).max() < tolerance
    convolutions = [
        info["runtimePrecision"].astype(str)
        for info in (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
        if info["layerType"].astype(str) == "Convolution"
    ]
    assert len(convolutions) == 2 and set(convolutions) <= {"i8", "u8"}


def test_tensorrt_accepts_an_int8_graph_with_a_float16_remainder(residual_net, images, ranges_of, run, trt_plan_size):
    model = residual_net()
    graph = half.halved(quantized(model, S8_HALF, ranges_of(model, {"x": images})))
    protos.check(graph)
    assert trt_plan_size(protos.to_bytes(graph), (3, 16, 16)) > 0
    assert scan(graph) == {Precision.FP32: 0, Precision.FP16: 3, Precision.INT8: 4}
    reference = run(model, {"x": images})["y"]
    found = run(graph, {"x": images})["y"]
    assert found.dtype == np.float32
    assert np.abs(found - reference).max() < 0.03 * np.abs(reference).max()


def test_tensorrt_accepts_int8_with_a_float32_remainder(residual_net, images, ranges_of, trt_plan_size):
    model = residual_net()
    graph = quantized(model, S8_RESIDUAL, ranges_of(model, {"x": images}))
    assert trt_plan_size(protos.to_bytes(graph), (3, 16, 16)) > 0


# ------------------------------------------------------------------------------------------------ what is quantized


def test_one_pair_serves_all_quantized_readers_and_others_keep_the_float_tensor(residual_net, images, ranges_of):
    model = residual_net()
    ranges = ranges_of(model, {"x": images})
    plain, residual = quantized(model, S8, ranges), quantized(model, S8_RESIDUAL, ranges)

    assert [node.input[0] for node in nodes(plain, "QuantizeLinear")] == ["x", "relu1", "flat"]
    assert list(nodes(plain, "Add")[0].input) == ["conv2", "relu1"]
    assert [node.input[0] for node in nodes(residual, "QuantizeLinear")] == ["x", "relu1", "conv2", "flat"]
    add, convolution = nodes(residual, "Add")[0], nodes(residual, "Conv")[1]
    assert add.input[1] == convolution.input[0] != "relu1"


def test_biases_stay_float_and_weights_have_no_quantize_node(residual_net, images, ranges_of):
    model = residual_net()
    graph = quantized(model, U8_RESIDUAL, ranges_of(model, {"x": images}))
    for node in nodes(graph, "Conv") + nodes(graph, "Gemm"):
        np.testing.assert_array_equal(constant(graph, node.input[2]), constant(model, node.input[2]))
    assert not {node.input[0] for node in nodes(graph, "QuantizeLinear")} & set(protos.constants(graph.graph))
    assert "w1" not in protos.constants(graph.graph), "the float weight is no longer carried"


def test_uint8_uses_its_whole_range(residual_net, images, ranges_of):
    model = residual_net()
    ranges = ranges_of(model, {"x": images})
    graph = quantized(model, U8, ranges)
    points = {node.input[0]: constant(graph, node.input[2]) for node in nodes(graph, "QuantizeLinear")}
    scales = {node.input[0]: float(constant(graph, node.input[1])) for node in nodes(graph, "QuantizeLinear")}
    x = ranges["x"]
    assert {name: int(point) for name, point in points.items()} == {
        "x": round(255 * -x.minimum / (x.maximum - x.minimum)),
        "relu1": 0,
        "flat": 0,
    }
    assert all(point.dtype == np.uint8 for point in points.values())
    assert scales["x"] == pytest.approx((x.maximum - x.minimum) / 255)
    assert scales["relu1"] == pytest.approx(ranges["relu1"].threshold / 255)


def test_an_addition_of_a_constant_or_of_floats_stays_float(make_model, ranges_of, run):
    rng = np.random.default_rng(0)
    model = make_model(
        [
            helper.make_node("MatMul", ["x", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["biased"]),
            helper.make_node("Relu", ["biased"], ["left"]),
            helper.make_node("Sigmoid", ["biased"], ["right"]),
            helper.make_node("Add", ["left", "right"], ["y"]),
        ],
        {"x": ["batch", 6]},
        {"y": ["batch", 5]},
        {"w": rng.normal(size=(6, 5)).astype(np.float32), "b": np.ones(5, np.float32)},
    )
    x = rng.normal(size=(8, 6)).astype(np.float32)
    graph = quantized(model, S8_RESIDUAL, ranges_of(model, {"x": x}))
    assert [node.input[0] for node in nodes(graph, "QuantizeLinear")] == ["x"]


def test_a_product_of_two_activations_quantizes_both(make_model, ranges_of, run):
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    model = make_model(
        [
            helper.make_node("Transpose", ["x"], ["xt"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["x", "xt"], ["y"]),
        ],
        {"x": ["batch", 4, 6]},
        {"y": ["batch", 4, 4]},
        {},
    )
    graph = quantized(model, S8, ranges_of(model, {"x": x}))
    assert [node.input[0] for node in nodes(graph, "QuantizeLinear")] == ["x", "xt"]
    reference = run(model, {"x": x})["y"]
    assert np.abs(run(graph, {"x": x})["y"] - reference).max() < 0.05 * np.abs(reference).max()


@pytest.mark.arithmetic
@pytest.mark.parametrize(
    ("kind", "shape", "attributes", "axis"),
    [
        ("Gemm", (6, 5), {}, 1),
        ("Gemm", (5, 6), {"transB": 1}, 0),
        ("MatMul", (6, 5), {}, 1),
        ("MatMul", (6,), {}, None),
    ],
)
def test_weights_have_one_scale_per_output_channel(make_model, ranges_of, run, kind, shape, attributes, axis):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=shape).astype(np.float32)
    if axis is not None:
        weight *= (10.0 ** np.arange(5)).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(2)])
    outputs = ["batch"] if len(shape) == 1 else ["batch", 5]
    model = make_model(
        [helper.make_node(kind, ["x", "w"], ["y"], **attributes)], {"x": ["batch", 6]}, {"y": outputs}, {"w": weight}
    )
    x = rng.normal(size=(16, 6)).astype(np.float32)
    graph = quantized(model, S8, ranges_of(model, {"x": x}))
    ((packed, scales, found_axis),) = weight_arrays(graph).values()
    assert found_axis == axis and packed.dtype == np.int8
    assert scales.shape == (() if axis is None else (5,))
    reference, found = run(model, {"x": x})["y"], run(graph, {"x": x})["y"]
    # A wrong axis would drown the small channels: each must be near on its own scale.
    assert np.all(np.abs(found - reference).max(axis=0) < 0.05 * np.abs(reference).max(axis=0))


def test_depthwise_convolution_and_a_channel_of_zeros(make_model, ranges_of, run):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 1, 3, 3)).astype(np.float32)
    weight[2] = 0
    model = make_model(
        [helper.make_node("Conv", ["x", "w"], ["y"], group=4, pads=[1, 1, 1, 1])],
        {"x": ["batch", 4, 8, 8]},
        {"y": ["batch", 4, 8, 8]},
        {"w": weight},
    )
    x = rng.normal(size=(2, 4, 8, 8)).astype(np.float32)
    graph = quantized(model, U8, ranges_of(model, {"x": x}))
    ((packed, scales, axis),) = weight_arrays(graph).values()
    assert axis == 0 and scales[2] == 1 and not packed[2].any()
    reference, found = run(model, {"x": x})["y"], run(graph, {"x": x})["y"]
    assert np.abs(found - reference).max() < 0.03 * np.abs(reference).max()
    assert not found[:, 2].any()


def test_a_weight_shared_with_an_unquantized_reader_is_kept_for_it(make_model, ranges_of, run):
    weight = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    model = make_model(
        [
            helper.make_node("MatMul", ["x", "w"], ["first"]),
            helper.make_node("MatMul", ["first", "w"], ["second"]),
            helper.make_node("Add", ["second", "w"], ["y"]),
        ],
        {"x": [6, 6]},
        {"y": [6, 6]},
        {"w": weight},
    )
    x = np.eye(6, dtype=np.float32)
    graph = quantized(model, S8, ranges_of(model, {"x": x}))
    np.testing.assert_array_equal(constant(graph, "w"), weight)
    assert len({node.input[1] for node in nodes(graph, "MatMul")}) == 1, "quantized once, read twice"


def test_weights_held_by_constant_nodes_are_quantized_too(make_model, ranges_of):
    weight = numpy_helper.from_array(np.ones((6, 5), np.float32))
    model = make_model(
        [helper.make_node("Constant", [], ["w"], value=weight), helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": ["batch", 6]},
        {"y": ["batch", 5]},
        {},
    )
    graph = quantized(model, S8, ranges_of(model, {"x": np.ones((2, 6), np.float32)}))
    assert [node.op_type for node in graph.graph.node].count("Constant") == 0
    assert len(weight_arrays(graph)) == 1


def test_a_model_with_its_own_scales_keeps_them(residual_net, images, ranges_of):
    model = residual_net()
    trained = quantized(model, S8_RESIDUAL, ranges_of(model, {"x": images}))
    again = quantized(trained, U8_RESIDUAL, {})
    assert protos.to_bytes(again) == protos.to_bytes(protos.normalized(trained))


def test_a_model_with_its_own_scales_can_have_a_float16_remainder(residual_net, images, ranges_of, run):
    model = residual_net()
    trained = quantized(model, S8, ranges_of(model, {"x": images}))
    graph = half.halved(quantized(trained, S8_HALF.model_copy(update={"residual_add": False}), {}))
    protos.check(graph)
    for name, (packed, scales, axis) in weight_arrays(trained).items():
        found = weight_arrays(graph)[name]
        np.testing.assert_array_equal(found[0], packed)
        np.testing.assert_allclose(found[1], scales, rtol=1e-3)
        assert found[1].dtype == np.float16 and found[2] == axis
    reference = run(trained, {"x": images})["y"]
    assert np.abs(run(graph, {"x": images})["y"] - reference).max() < 0.03 * np.abs(reference).max()


def test_an_opset_without_channels_or_float16_scales_is_raised(residual_net, images, ranges_of, run):
    model = residual_net(opset=11)
    ranges = ranges_of(model, {"x": images})
    single = quantized(model, S8, ranges)
    mixed = half.halved(quantized(model, S8_HALF, ranges))
    protos.check(mixed)
    assert protos.opset(single) == 13 and protos.opset(mixed) == 19
    reference = run(model, {"x": images})["y"]
    assert np.abs(run(mixed, {"x": images})["y"] - reference).max() < 0.03 * np.abs(reference).max()


# ------------------------------------------------------------------------------------------------ refusals


def test_a_missing_threshold_is_named_with_its_nearest_names(residual_net, images, ranges_of):
    model = residual_net()
    ranges = ranges_of(model, {"x": images})
    del ranges["relu1"]
    with pytest.raises(MissingThreshold, match=r"tensor 'relu1'.*'relu2'"):
        quantized(model, S8, ranges)


def test_nothing_to_quantize_is_an_error(make_model):
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": ["batch", 3]}, {"y": ["batch", 3]}, {})
    with pytest.raises(UnsupportedOperator, match="at least one float32 Conv, Gemm, MatMul"):
        quantized(model, S8, {})


def test_weights_that_are_not_finite_are_refused(make_model):
    weight = np.asarray([[1.0, np.nan]], np.float32)
    model = make_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["batch", 1]}, {"y": ["batch", 2]}, {"w": weight}
    )
    with pytest.raises(InvalidOnnx, match="finite weights in 'w'"):
        quantized(model, S8, {"x": TensorRange(threshold=1, minimum=-1, maximum=1)})


# ------------------------------------------------------------------------------------------------ arithmetic


@pytest.mark.parametrize("recipe", [S8, U8, S8_HALF], ids=lambda recipe: str(recipe))
def test_a_tensor_that_was_always_zero_gives_zero_and_no_nan(make_model, run, recipe):
    model = make_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": ["batch", 4]},
        {"y": ["batch", 4]},
        {"w": np.eye(4, dtype=np.float32)},
    )
    graph = quantized(model, recipe, {"x": TensorRange(threshold=0, minimum=0, maximum=0)})
    graph = half.halved(graph) if recipe.remainder is Precision.FP16 else graph
    np.testing.assert_array_equal(run(graph, {"x": np.zeros((2, 4), np.float32)})["y"], np.zeros((2, 4)))


def test_names_that_are_taken_are_not_taken_again(make_model, ranges_of, run):
    model = make_model(
        [
            helper.make_node("Relu", ["x"], ["x_quantized"]),
            helper.make_node("MatMul", ["x", "w"], ["x_dequantized"]),
            helper.make_node("Add", ["x_dequantized", "x_quantized"], ["y"]),
        ],
        {"x": ["batch", 4]},
        {"y": ["batch", 4]},
        {"w": np.eye(4, dtype=np.float32)},
    )
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    graph = quantized(model, S8_RESIDUAL, ranges_of(model, {"x": x}))
    assert np.abs(run(graph, {"x": x})["y"] - run(model, {"x": x})["y"]).max() < 0.05


def test_subgraphs_of_control_flow_stay_float(make_model, ranges_of, run):
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["h", "w"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    model = make_model(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        ],
        {"x": ["batch", 4]},
        {"y": ["batch", 4]},
        {"w": np.eye(4, dtype=np.float32), "yes": np.asarray(True)},
    )
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    graph = quantized(model, S8, {"x": ranges_of(model, {"x": x})["x"]})
    assert "w" in protos.constants(graph.graph), "the branch still reads the float weight"
    assert scan(graph) == {Precision.FP32: 2, Precision.FP16: 0, Precision.INT8: 1}
    assert np.abs(run(graph, {"x": x})["y"] - x).max() < 0.05


def test_integer_products_are_left_alone(make_model):
    nodes_ = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT32),
        helper.make_node("MatMul", ["whole", "k"], ["counts"]),
        helper.make_node("Cast", ["counts"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["back", "w"], ["y"]),
    ]
    weights = {"k": np.ones((3, 3), np.int32), "w": np.eye(3, dtype=np.float32)}
    model = make_model(nodes_, {"x": ["batch", 3]}, {"y": ["batch", 3]}, weights)
    graph = quantized(model, S8, {"back": TensorRange(threshold=3, minimum=0, maximum=3)})
    assert [node.input[0] for node in nodes(graph, "QuantizeLinear")] == ["back"]


def test_planned_operands_name_what_calibration_must_observe(residual_net):
    model = protos.normalized(residual_net())
    found = {operand.tensor for operand in quantize.plan_operands(model, U8_RESIDUAL) if not operand.constant}
    assert found == {"x", "relu1", "conv2", "flat"}

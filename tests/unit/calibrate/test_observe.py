from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from regiolect.calibrate import calibrate, observe, table_of, tensors_to_observe
from regiolect.calibrate.histogram import histogram_of
from regiolect.contracts import CalibrationMethod, Preprocessing
from regiolect.data import Samples, model_inputs
from regiolect.errors import (
    EmptyHistogram,
    InvalidOnnx,
    InvalidSamples,
    MissingThreshold,
    NonFiniteActivation,
)
from regiolect.precision import QUANTIZED_OPERATORS, Recipe

OBSERVED = ("image", "relu1", "conv2", "shifted", "upright", "flat")
MINMAX, ENTROPY = CalibrationMethod.MINMAX, CalibrationMethod.ENTROPY


def inner_values(proto: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Every tensor of the graph by ONNX's own reference implementation."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    known = {value.name for value in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output]
    proto.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    values = ReferenceEvaluator(proto).run(names, dict(feeds))
    return {**feeds, **dict(zip(names, values, strict=True))}


def test_activations_are_observed_and_constants_are_not(network) -> None:
    assert tensors_to_observe(network().graph) == OBSERVED


def test_every_activation_that_a_recipe_quantizes_is_observed(network) -> None:
    from regiolect.graphs.quantize import plan_operands

    recipe = Recipe(activation="int8", operators=QUANTIZED_OPERATORS, residual_add=True)
    planned = {operand.tensor for operand in plan_operands(network(), recipe) if not operand.constant}
    assert planned
    assert planned <= set(tensors_to_observe(network().graph))


def test_the_table_tells_what_the_reference_implementation_computes(workshop, network, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    table = calibrate(model, data, MINMAX, workshop.store)
    expected = inner_values(network(), model_inputs(samples, model.preprocessing))
    assert tuple(table.tensors) == OBSERVED
    for name, found in table.tensors.items():
        low, high = expected[name].min(), expected[name].max()
        assert (found.minimum, found.maximum) == pytest.approx((low, high), rel=1e-4, abs=1e-5)
        assert found.threshold == pytest.approx(max(-low, high), rel=1e-4)


def test_histograms_hold_every_value_once_for_any_batch(workshop, network, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    sizes = {
        name: values.size
        for name, values in inner_values(network(), model_inputs(samples, model.preprocessing)).items()
    }
    exact = histogram_of(model_inputs(samples, model.preprocessing)["image"])
    for batch in (None, 1, 4, 11, 50):
        histograms = observe(model, data, workshop.store, batch=batch).histograms
        assert {name: histogram.total for name, histogram in histograms.items()} == {
            name: sizes[name] for name in OBSERVED
        }
        assert histograms["image"].counts.tolist() == exact.counts.tolist()


def test_another_method_needs_no_other_pass(workshop, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    observed = observe(model, data, workshop.store)
    for method in CalibrationMethod:
        assert table_of(observed, method).tensors == calibrate(model, data, method, workshop.store).tensors


def test_entropy_clips_a_lone_outlier_that_minmax_keeps(workshop) -> None:
    rng = np.random.default_rng(2)
    images = rng.normal(size=(200, 3, 6, 6)).astype(np.float32)
    images[17, 0, 0, 0] = 400.0
    samples = Samples(
        ids=np.arange(200).astype(str), regions=np.array(["eu"] * 200), inputs={"image": images}, targets=np.zeros(200)
    )
    model, data = workshop.model(preprocessing=Preprocessing()), workshop.data(samples)
    assert calibrate(model, data, ENTROPY, workshop.store).tensors["image"].threshold < 10.0
    assert calibrate(model, data, MINMAX, workshop.store).tensors["image"].threshold == 400.0


def test_entropy_keeps_what_is_seen_on_images_that_are_mostly_black(workshop) -> None:
    rng = np.random.default_rng(4)
    weight = numpy_helper.from_array((rng.normal(size=(8, 1, 3, 3)) / 3).astype(np.float32), "weight")
    bias = numpy_helper.from_array(rng.normal(scale=0.1, size=8).astype(np.float32), "bias")
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Conv", ["relu", "mixing"], ["scores"]),
    ]
    mixing = numpy_helper.from_array(np.ones((1, 8, 1, 1), np.float32), "mixing")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 24, 24])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1, 22, 22])
    graph = helper.make_graph(nodes, "net", [image], [scores], [weight, bias, mixing])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    images = np.zeros((60, 1, 24, 24), np.float32)
    images[:, :, 8:15, 8:15] = rng.random((60, 1, 7, 7))
    samples = Samples(
        ids=np.arange(60).astype(str), regions=np.array(["eu"] * 60), inputs={"image": images}, targets=np.zeros(60)
    )
    model = workshop.model(proto, preprocessing=Preprocessing())
    relu = inner_values(proto, {"image": images})["relu"]
    kept = calibrate(model, workshop.data(samples), ENTROPY, workshop.store).tensors["relu"].threshold
    background = relu[:, :, 0, 0]
    assert (background > 0).any()
    assert (relu > kept).sum() <= 0.001 * (~np.isin(relu, background)).sum()


def test_progress_ends_at_the_number_of_samples(workshop, samples) -> None:
    seen: list[tuple[int, int]] = []
    calibrate(
        workshop.model(),
        workshop.data(samples),
        ENTROPY,
        workshop.store,
        progress=lambda done, total: seen.append((done, total)),
        batch=4,
    )
    assert seen == [(4, 11), (8, 11), (11, 11)]


def test_only_the_tensors_asked_for_are_observed(workshop, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    whole = calibrate(model, data, ENTROPY, workshop.store)
    part = calibrate(model, data, ENTROPY, workshop.store, tensors=["scores", "relu1"])
    assert set(part.tensors) == {"scores", "relu1"}
    assert part.tensors["relu1"] == whole.tensors["relu1"]
    assert set(calibrate(model, data, ENTROPY, workshop.store, tensors=["image"]).tensors) == {"image"}


@pytest.mark.parametrize("name", ["nowhere", "w1"])
def test_a_tensor_that_the_graph_does_not_make_is_refused(workshop, samples, name) -> None:
    with pytest.raises(MissingThreshold, match=name):
        calibrate(workshop.model(), workshop.data(samples), ENTROPY, workshop.store, tensors=["relu1", name])


@pytest.mark.parametrize(("poison", "tensor"), [(np.nan, "image"), (np.inf, "image"), (3e38, "product")])
def test_a_value_that_is_not_finite_names_tensor_and_sample(workshop, float_samples, poison, tensor) -> None:
    samples = float_samples()
    samples.inputs["image"][6, :, 2, 3] = poison
    model, data = workshop.model(preprocessing=Preprocessing()), workshop.data(samples)
    observed = None if tensor == "image" else ["image", "product"]
    with pytest.raises(NonFiniteActivation) as caught:
        calibrate(model, data, ENTROPY, workshop.store, tensors=observed, batch=4)
    assert repr(tensor) in caught.value.expected
    assert "'eu-006'" in caught.value.found
    assert "eu-005" not in str(caught.value)
    assert "eu-007" not in str(caught.value)


def test_tensors_whose_size_depends_on_the_data_are_observed(workshop, samples) -> None:
    nodes = [
        helper.make_node("NonZero", ["image"], ["where"]),
        helper.make_node("Transpose", ["where"], ["places"]),
        helper.make_node("Cast", ["places"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["floats", "w"], ["y"]),
    ]
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "places",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 6, 6])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["places", 2])],
            [numpy_helper.from_array(np.ones((4, 2), np.float32), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    empty = np.zeros_like(samples.inputs["image"])
    model = workshop.model(proto, outputs=("y",), preprocessing=Preprocessing())
    found = observe(model, workshop.data(samples), workshop.store, batch=3).histograms
    assert found["floats"].total == 4 * np.count_nonzero(samples.inputs["image"])
    with pytest.raises(EmptyHistogram, match="floats"):
        calibrate(model, workshop.data(replace(samples, inputs={"image": empty})), ENTROPY, workshop.store)


def test_samples_that_do_not_fit_the_model_are_refused(workshop, samples) -> None:
    model = workshop.model()
    misnamed = replace(samples, inputs={"picture": samples.inputs["image"]})
    with pytest.raises(InvalidSamples, match="image"):
        calibrate(model, workshop.data(misnamed), ENTROPY, workshop.store)
    misshapen = replace(samples, inputs={"image": samples.inputs["image"][:, :2]})
    with pytest.raises(InvalidSamples, match=r"\(1, 2, 6, 6\)"):
        calibrate(model, workshop.data(misshapen), ENTROPY, workshop.store)


def test_a_graph_that_cannot_be_read_or_loaded_is_refused(workshop, network, samples) -> None:
    data = workshop.data(samples)
    whole = network().SerializeToString()
    truncated = workshop.model().model_copy(update={"graph": workshop.store.put_bytes(whole[: len(whole) // 2])})
    with pytest.raises(InvalidOnnx):
        calibrate(truncated, data, ENTROPY, workshop.store)
    unknown = network()
    unknown.graph.node[1].op_type = "Rectify"
    with pytest.raises(InvalidOnnx, match="Rectify"):
        calibrate(workshop.model(unknown), data, ENTROPY, workshop.store)


def test_ranges_of_every_float_tensor_are_what_the_reference_computes(workshop, network, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    expected = inner_values(network(), model_inputs(samples, model.preprocessing))
    observed = observe(model, data, workshop.store, ranges=True)
    assert {*observed.histograms, *observed.ranges} == expected.keys() - {"half"}
    assert tuple(observed.histograms) == OBSERVED
    table = table_of(observed, MINMAX)
    for name, found in table.tensors.items():
        low, high = expected[name].min(), expected[name].max()
        assert (found.minimum, found.maximum) == pytest.approx((low, high), rel=1e-4, abs=1e-5)
        assert found.threshold == max(-found.minimum, found.maximum)
    for name in observed.ranges:
        assert table_of(observed, ENTROPY).tensors[name] == table.tensors[name]


def test_ranges_alone_are_those_beside_histograms(workshop, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    alone = observe(model, data, workshop.store, histograms=False, ranges=True)
    both = observe(model, data, workshop.store, ranges=True)
    assert not alone.histograms
    assert table_of(alone, MINMAX).tensors == table_of(both, MINMAX).tensors


def _masked() -> onnx.ModelProto:
    """Scores, -inf where the input is not positive, through a softmax; the logarithm of the input beside it."""
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["scores"]),
        helper.make_node("Greater", ["image", "zero"], ["kept"]),
        helper.make_node("Where", ["kept", "scores", "never"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["weights"], axis=1),
        helper.make_node("Log", ["image"], ["log"]),
        helper.make_node("Mul", ["weights", "scale"], ["y"]),
    ]
    shape = ["batch", 3, 6, 6]
    graph = helper.make_graph(
        nodes,
        "masked",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.eye(6, dtype="f4"), "w"),
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.float32(-np.inf), "never"),
            numpy_helper.from_array(np.float32(3), "scale"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _images(samples: Samples, images: NDArray[np.float32]) -> Samples:
    return replace(samples, inputs={"image": images})


def test_a_mask_of_infinities_has_a_range_and_nan_has_none(workshop, samples) -> None:
    model = workshop.model(_masked(), outputs=("y",), preprocessing=Preprocessing())
    images = np.random.default_rng(4).integers(1, 9, (11, 3, 6, 6)).astype(np.float32)
    images[3, 1] = 0.0
    found = observe(model, workshop.data(_images(samples, images)), workshop.store, ranges=True).ranges
    assert (found["masked"].minimum, found["masked"].maximum) == (1.0, images.max())
    images[5, 0, 2, 2] = -1.0
    with pytest.raises(NonFiniteActivation) as caught:
        observe(model, workshop.data(_images(samples, images)), workshop.store, ranges=True, batch=4)
    assert "'log'" in caught.value.expected
    assert caught.value.found.endswith("NaN for sample 'eu-005'")


def test_a_graph_without_floats_has_nothing_to_calibrate(workshop, samples) -> None:
    shape = ["batch", 3, 6, 6]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["image"], ["y"])],
        "whole numbers",
        [helper.make_tensor_value_info("image", TensorProto.INT32, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, shape)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with pytest.raises(MissingThreshold, match="nothing that another precision would change"):
        observe(workshop.model(proto, outputs=("y",)), workshop.data(samples), workshop.store, ranges=True)


@pytest.mark.parametrize("value", [0, 200])
def test_samples_that_are_all_alike_are_calibrated(workshop, samples, value) -> None:
    images = np.full_like(samples.inputs["image"], value)
    model = workshop.model(preprocessing=Preprocessing())
    for method in CalibrationMethod:
        table = calibrate(model, workshop.data(_images(samples, images)), method, workshop.store)
        assert table.tensors["image"].threshold == value
        assert all(np.isfinite(found.threshold) for found in table.tensors.values())


def test_a_model_with_functions_of_its_own_is_observed_like_one_without(workshop, network, samples) -> None:
    plain = network()
    body = [helper.make_node("Relu", ["x"], ["y"])]
    function = helper.make_function("own", "Rectify", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    calling = onnx.ModelProto()
    calling.CopyFrom(plain)
    calling.graph.node[1].op_type, calling.graph.node[1].domain = "Rectify", "own"
    calling.functions.append(function)
    calling.opset_import.append(helper.make_opsetid("own", 1))
    data = workshop.data(samples)
    one, other = (observe(workshop.model(proto), data, workshop.store, ranges=True) for proto in (plain, calling))
    assert table_of(one, MINMAX).tensors == table_of(other, MINMAX).tensors

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

from regiolect.calibrate import calibrate, observe, seal, tensors_to_observe
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
        histograms = observe(model, data, workshop.store, batch=batch)
        assert {name: histogram.total for name, histogram in histograms.items()} == {
            name: sizes[name] for name in OBSERVED
        }
        assert histograms["image"].counts.tolist() == exact.counts.tolist()


def test_another_method_needs_no_other_pass(workshop, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    histograms = observe(model, data, workshop.store)
    for method in CalibrationMethod:
        assert seal(histograms, model, data, method) == calibrate(model, data, method, workshop.store)


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
    found = observe(model, workshop.data(samples), workshop.store, batch=3)
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

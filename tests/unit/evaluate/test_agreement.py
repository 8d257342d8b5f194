"""Whether a built engine answers as the graph that it was built from: what is refused, what not, what is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import (
    BatchProfile,
    DimensionProfile,
    EngineArtifact,
    ExportedModel,
    Precision,
    SampleSet,
    Split,
    TensorRange,
    TensorSpec,
)
from regiolect.data import Samples, samples_to_bytes
from regiolect.engines.base import Backend
from regiolect.engines.catalog import backend
from regiolect.engines.obstacle import Obstacle
from regiolect.errors import EngineMiscomputes, ReferenceFailed
from regiolect.evaluate.agreement import SAMPLES, Distance, distances, few_inputs, fitted, require_agreement
from regiolect.graphs import protos, quantize

BACKENDS = ("onnxruntime", "openvino")
Arrays = Mapping[str, NDArray[Any]]
Network = Callable[..., onnx.ModelProto]


def network(
    nodes: list[onnx.NodeProto], shapes: Mapping[str, list[int | str]], outputs: Mapping[str, int], **constants: Any
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def two_in_two_out() -> onnx.ModelProto:
    """x (batch, 8) times a head -> y, and what is largest in it -> label; z (batch, 3) twice -> double."""
    rng = np.random.default_rng(3)
    return network(
        [
            helper.make_node("MatMul", ["x", "h"], ["y"]),
            helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
            helper.make_node("Add", ["z", "z"], ["double"]),
        ],
        {"x": [8], "z": [3]},
        {"y": TensorProto.FLOAT, "label": TensorProto.INT64, "double": TensorProto.FLOAT},
        h=rng.normal(size=(8, 4)).astype(np.float32),
    )


def calibration(lab: Any, count: int = 40, **inputs: tuple[int, ...]) -> SampleSet:
    rng = np.random.default_rng(count)
    samples = Samples(
        ids=np.array([f"eu-{index:03}" for index in range(count)]),
        regions=np.full(count, "eu"),
        inputs={name: rng.normal(size=(count, *shape)).astype(np.float32) for name, shape in inputs.items()},
        targets=np.zeros(count, np.int64),
    )
    blob = lab.store.put_bytes(samples_to_bytes(samples))
    return SampleSet(region="eu", split=Split.CALIBRATION, samples=count, blob=blob)


def exported(lab: Any, model: onnx.ModelProto) -> ExportedModel:
    graph = model.graph
    inputs = tuple(
        TensorSpec(
            name=value.name,
            shape=tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in graph.input
    )
    spec = lab.spec(model, inputs=inputs, outputs=tuple(value.name for value in graph.output))
    return lab.exported(spec)


def quantized(name: str, model: onnx.ModelProto, inputs: Arrays) -> onnx.ModelProto:
    """The graph that the backend's recipe makes of it, with the ranges that these inputs give."""
    from onnx.reference import ReferenceEvaluator

    plain = protos.normalized(model)
    seen = ReferenceEvaluator(plain)
    watched = onnx.ModelProto.FromString(plain.SerializeToString())
    names = list(dict.fromkeys(output for node in plain.graph.node for output in node.output))
    known = {value.name for value in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=each) for each in names if each not in known)
    seen = ReferenceEvaluator(watched)
    values = {**dict(zip(names, seen.run(names, dict(inputs)), strict=True)), **inputs}
    ranges = {
        each: TensorRange(threshold=float(abs(value).max()), minimum=float(value.min()), maximum=float(value.max()))
        for each, value in values.items()
        if value.dtype == np.float32
    }
    return quantize.quantized(plain, backend(name).recipe_here(Precision.INT8), ranges)


def scaled_convolution() -> onnx.ModelProto:
    """A product with factors of both signs, one a channel, right before a convolution."""
    rng = np.random.default_rng(0)
    signs = np.where(np.arange(8) % 2, -1, 1).reshape(1, 8, 1, 1)
    return network(
        [helper.make_node("Mul", ["x", "factors"], ["a"]), helper.make_node("Conv", ["a", "w"], ["y"])],
        {"x": [8, 8, 8]},
        {"y": TensorProto.FLOAT},
        factors=(signs * rng.uniform(0.5, 1, signs.shape)).astype(np.float32),
        w=rng.normal(size=(8, 8, 3, 3)).astype(np.float32),
    )


def built(lab: Any, name: str, model: ExportedModel, precision: Precision, **changes: Any) -> EngineArtifact:
    proto = changes.pop("proto", None)
    artifact: EngineArtifact = lab.engine(model, proto, backend=name, precision=precision, **changes)
    return artifact


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_an_engine_that_computes_its_graph_is_taken_with_all_its_outputs(
    lab: Any, name: str, precision: Precision
) -> None:
    model = exported(lab, two_in_two_out())
    seen = calibration(lab, x=(8,), z=(3,))
    proto = None
    if precision is Precision.INT8:
        proto = quantized(name, protos.load(lab.store.path_of(model.graph)), few_inputs(model, seen, lab.store))
    artifact = built(lab, name, model, precision, proto=proto)
    found = require_agreement(backend(name), artifact, model, seen, lab.store)
    assert [each.output for each in found] == ["y", "label", "double"]
    assert all(each.share <= each.allowed for each in found)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("precision", list(Precision))
def test_an_engine_of_another_graph_is_refused_by_name_with_a_way_out(
    lab: Any, dense_graph: Network, name: str, precision: Precision
) -> None:
    model = lab.exported(lab.spec())
    other = dense_graph()
    other.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(-1.2 * numpy_helper.to_array(other.graph.initializer[0]), "h")
    )
    artifact = built(lab, name, model, precision)
    request = artifact.request.model_copy(update={"graph": lab.store.put_bytes(other.SerializeToString())})
    own = backend(name)
    wrong = own.build(request, lab.store)
    asked = wrong.model_copy(update={"request": artifact.request, "files": wrong.files})
    # What it tells of its origin is the other graph's as well: it is the content that is wrong.
    own_origin = own.build(request, lab.store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(own), "origin", lambda self, _: Backend.origin(self, own_origin.request))
        with pytest.raises(EngineMiscomputes) as caught:
            require_agreement(own, asked, model, calibration(lab, x=(8,)), lab.store)
    error = caught.value
    assert f"output 'y' of the {precision} engine of {name}" in error.expected
    assert "2.2 of its size away" in error.found
    assert "name another backend for 'cpu' in the policy of eu" in error.remedy
    assert ("repair.fallback" in error.remedy) == (precision is not Precision.FP32)


def test_what_openvino_gets_wrong_of_a_quantized_graph_is_found(lab: Any) -> None:
    """Where another version of it does not, engine and graph agree: then this test has nothing to find."""
    model = exported(lab, scaled_convolution())
    seen = calibration(lab, x=(8, 8, 8))
    inputs = few_inputs(model, seen, lab.store)
    for name in BACKENDS:
        proto = quantized(name, protos.load(lab.store.path_of(model.graph)), inputs)
        artifact = built(lab, name, model, Precision.INT8, proto=proto)
        engine = backend(name).load(artifact, lab.store)
        right = onnx.reference.ReferenceEvaluator(proto).run(None, dict(inputs))[0]
        apart = np.linalg.norm(engine.run_many(inputs)["y"] - right) / np.linalg.norm(right)
        if apart > 0.5:
            with pytest.raises(EngineMiscomputes):
                require_agreement(backend(name), artifact, model, seen, lab.store)
        else:
            (found,) = require_agreement(backend(name), artifact, model, seen, lab.store)
            assert found.share == pytest.approx(apart, abs=1e-4)


def test_samples_are_padded_as_the_engine_pads_them_and_cut_to_what_it_takes(lab: Any) -> None:
    """A sum over a width that varies: the padding would be a difference of its own."""
    model = exported(
        lab,
        network(
            [
                helper.make_node("Sigmoid", ["x"], ["s"]),
                helper.make_node("ReduceSum", ["s", "axis"], ["y"], keepdims=0),
            ],
            {"x": [2, "width"]},
            {"y": TensorProto.FLOAT},
            axis=np.array([2]),
        ),
    )
    for shapes, width in (
        ({"width": DimensionProfile(min=4, opt=8, max=16, buckets=(8, 16))}, 8),
        ({"width": DimensionProfile(min=2, opt=4, max=4)}, 4),
        ({"width": DimensionProfile(min=9, opt=9, max=12)}, 9),
    ):
        artifact = built(lab, "openvino", model, Precision.FP32, shapes=shapes)
        seen = calibration(lab, x=(2, 6))
        inputs = few_inputs(model, seen, lab.store)
        assert fitted(artifact.request, inputs)["x"].shape == (SAMPLES, 2, width)
        assert np.array_equal(fitted(artifact.request, inputs)["x"][..., :4], inputs["x"][..., :4])
        (found,) = require_agreement(backend("openvino"), artifact, model, seen, lab.store)
        assert found.share < 1e-5


def test_a_batch_of_one_or_of_many_makes_no_difference(lab: Any) -> None:
    model = lab.exported(lab.spec())
    for profile in (BatchProfile(min=1, opt=1, max=1), BatchProfile(min=16, opt=16, max=16)):
        artifact = built(lab, "openvino", model, Precision.FP32, profile=profile)
        (found,) = require_agreement(backend("openvino"), artifact, model, calibration(lab, 3, x=(8,)), lab.store)
        assert found.share < 1e-5


def test_an_engine_that_cannot_run_here_is_not_asked(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lab.exported(lab.spec())
    artifact = built(lab, "openvino", model, Precision.FP32)
    own = backend("openvino")
    monkeypatch.setattr(type(own), "obstacle", lambda self: Obstacle("device", "no GPU", "get one"))
    assert require_agreement(own, artifact, model, calibration(lab, x=(8,)), lab.store) == ()


def test_an_engine_of_another_machine_is_not_asked(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lab.exported(lab.spec())
    artifact = built(lab, "openvino", model, Precision.FP32)
    own = backend("openvino")
    monkeypatch.setattr(type(own), "binding", frozenset({"flags"}))
    elsewhere = artifact.model_copy(update={"fingerprint": {**artifact.fingerprint, "flags": "others"}})
    assert require_agreement(own, elsewhere, model, calibration(lab, x=(8,)), lab.store) == ()


def test_a_graph_that_nothing_runs_proves_nothing(lab: Any, dense_graph: Network) -> None:
    model = lab.exported(lab.spec())
    artifact = built(lab, "openvino", model, Precision.FP32)
    strange = dense_graph()
    strange.graph.node[0].domain = "vendor.example"
    strange.opset_import.append(helper.make_opsetid("vendor.example", 1))
    blob = lab.store.put_bytes(strange.SerializeToString())
    own = backend("openvino")
    asked = artifact.model_copy(update={"request": artifact.request.model_copy(update={"graph": blob})})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(own), "origin", lambda self, _: Backend.origin(self, artifact.request))
        with pytest.raises(ReferenceFailed, match="in ONNX Runtime or in ONNX's own reference"):
            require_agreement(own, asked, model, calibration(lab, x=(8,)), lab.store)


def shares(answers: Any, graph: Any, fp32: Any = None, allowed: float = 0.05) -> Distance:
    def in_fp32() -> Arrays:
        assert fp32 is not None
        return {"y": np.asarray(fp32)}

    (found,) = distances({"y": np.asarray(answers)}, {"y": np.asarray(graph)}, allowed, in_fp32)
    return found


def test_each_output_counts_by_its_own_size() -> None:
    graph = {"large": np.full((2, 3), 1e6, np.float32), "small": np.full((2, 3), 1e-6, np.float32)}
    answers = {"large": graph["large"], "small": 2 * graph["small"]}
    large, small = distances(answers, graph, 0.05, lambda: graph)
    assert large.share == 0.0
    assert (small.output, small.share) == ("small", pytest.approx(1.0))
    assert small.share > small.allowed


def test_where_quantization_takes_much_rounding_may_take_twice_as_much() -> None:
    graph, fp32 = np.full(4, 1.0), np.full(4, 1.1)
    assert shares(np.full(4, 0.85), graph, fp32).allowed == pytest.approx(0.2)
    assert shares(np.full(4, 0.7), graph, fp32).share > shares(np.full(4, 0.7), graph, fp32).allowed


def test_fp32_is_not_asked_where_nothing_is_exceeded() -> None:
    assert shares([1.0, 1.01], [1.0, 1.0]).allowed == 0.05


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_an_output_that_is_always_the_same_agrees_with_itself(value: float) -> None:
    assert shares(np.full((4, 2), value), np.full((4, 2), value)).share == 0.0


def test_an_output_that_is_always_zero_counts_as_of_size_1() -> None:
    zero = np.zeros((4, 2))
    assert shares(np.full((4, 2), 1e-6), zero).share == pytest.approx(1e-6)
    wrong = shares(np.full((4, 2), 3.0), zero, zero)
    assert wrong.share > wrong.allowed


def test_what_is_not_finite_in_the_graph_itself_is_left_out_and_in_the_engine_alone_is_not_alike() -> None:
    assert shares([np.nan, 1.0], [np.inf, 1.0]).share == 0.0
    assert shares([np.nan, np.inf], [np.inf, np.nan]).share == 0.0
    alone = shares([1.0, 1.0], [np.inf, np.nan], [1.0, 1.0])
    assert alone.share > alone.allowed, "an engine that shares no value with its graph agrees with nothing"
    wrong = shares([np.nan, 1.0], [1.0, 1.0], [1.0, 1.0])
    assert wrong.share > wrong.allowed


def test_labels_may_differ_where_scores_are_close_but_not_most_of_them() -> None:
    assert shares(np.arange(8) // 5, np.zeros(8, np.int64)).share == pytest.approx(3 / 8)
    right = shares(np.arange(8) // 5, np.zeros(8, np.int64))
    assert right.share <= right.allowed
    wrong = shares(np.ones(8, np.int64), np.zeros(8, np.int64), np.zeros(8, np.int64))
    assert wrong.share > wrong.allowed


def test_labels_may_be_words() -> None:
    words = np.asarray(["left", "right", "left", "up"], object)
    assert shares(words, words).share == 0.0
    wrong = shares(np.asarray(["down"] * 4, object), words, words)
    assert wrong.share > wrong.allowed


def test_where_quantization_changes_labels_rounding_may_change_twice_as_many_but_not_all() -> None:
    graph, fp32, engine = (np.zeros((1, 100), np.int64) for _ in range(3))
    graph[:, :10], fp32[:, 4:10], engine[:, 7:10] = 1, 1, 1
    right = shares(engine, graph, fp32)
    assert (right.share, right.allowed) == pytest.approx((0.7, 0.8))
    assert shares(np.zeros_like(graph), graph, np.zeros_like(graph)).allowed == 0.5
    most = np.arange(10)
    assert shares(most + 50 * (most > 2), most, most + 100 * (most < 4)).allowed == 0.5, "most are others"


def test_labels_that_are_all_others_are_not_alike_however_near_their_numbers() -> None:
    words = np.random.default_rng(0).integers(10_000, 30_000, (8, 5))
    wrong = shares(words + 400, words, words)
    assert wrong.share > wrong.allowed


@pytest.mark.parametrize("kind", [bool, np.int64, np.uint8])
def test_a_mask_that_lost_what_it_shows_is_not_alike_though_most_of_it_is(kind: type) -> None:
    """An engine that answered background alone was taken for right."""
    graph: NDArray[Any] = np.zeros((2, 100, 100), kind)
    graph[:, 20:50, 20:50] = 1
    wrong = shares(np.zeros_like(graph), graph, graph)
    assert wrong.share == pytest.approx(1.0) and wrong.share > wrong.allowed
    moved = np.roll(graph, 1, axis=2)
    right = shares(moved, graph)
    assert right.share <= right.allowed, "edges may be others"


def test_a_mask_that_shows_nothing_may_have_a_few_values_that_are_others() -> None:
    few = np.zeros((2, 100, 100), bool)
    few[0, 5, :90] = True
    right = shares(few, np.zeros_like(few))
    assert right.share <= right.allowed


def test_numbers_that_are_written_as_whole_ones_may_all_be_a_little_others() -> None:
    """Every one of them is another by a step or two, in FP32 too: the engine was refused."""
    graph = np.random.default_rng(0).integers(-(10**6), 10**6, (8, 5))
    assert shares(graph + 3, graph, allowed=0.001).share < 0.001
    wrong = shares(graph[::-1], graph, graph)
    assert wrong.share > wrong.allowed


def test_what_float32_does_not_hold_exactly_may_be_zero() -> None:
    assert shares(np.zeros((4, 2)), np.full((4, 2), 1e-39, np.float32)).share == 0.0
    wrong = shares(np.zeros((4, 2)), np.full((4, 2), 1e-37, np.float32), np.full((4, 2), 1e-37))
    assert wrong.share > wrong.allowed


def test_another_shape_is_not_alike() -> None:
    wrong = shares(np.ones((4, 1)), np.ones((4, 2)), np.ones((4, 2)))
    assert wrong.share > wrong.allowed

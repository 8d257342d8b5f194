"""The ranking finds what quantization really hurts: errors of known size, and a network with one bad operator."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    ExportedModel,
    Preprocessing,
    Seal,
    TensorRange,
    TensorSpec,
)
from regiolect.data import Samples, model_inputs
from regiolect.errors import ForeignCalibration, InvalidSamples, MissingThreshold, UnsupportedOperator
from regiolect.graphs import operators_of, protos, quantize
from regiolect.integrity import digest_of
from regiolect.precision import QUANTIZED_OPERATORS, Recipe
from regiolect.repair.sensitivity import MOST_SAMPLES, _fitting_batch, rank_operators
from regiolect.storage import LocalStore

U8 = Recipe(activation="uint8", operators=QUANTIZED_OPERATORS, residual_add=True)
HOW = Preprocessing(scale=1 / 128, mean=(1.0,))


def weight(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def network() -> onnx.ModelProto:
    """conv2 reads one channel a thousand times as large as the others, so one scale for all of them drowns those."""
    rng = np.random.default_rng(0)
    spread = np.ones((1, 8, 1, 1), np.float32)
    spread[0, 0] = 1000
    # The large channel counts for little in what conv2 makes.
    second = weight(rng, 8, 8, 3, 3) / spread / np.where(spread > 1, 100, 1)
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["conv1"], pads=[1] * 4),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("Mul", ["relu1", "spread"], ["uneven"]),
        helper.make_node("Conv", ["uneven", "w2"], ["conv2"], pads=[1] * 4),
        helper.make_node("Add", ["conv2", "relu1"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 5])],
        [
            numpy_helper.from_array(np.asarray(value, np.float32), name)
            for name, value in {
                "w1": weight(rng, 8, 3, 3, 3),
                "w2": second,
                "w3": weight(rng, 5, 8),
                "spread": spread,
            }.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def values_of(model: onnx.ModelProto, names: list[str], feeds: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    import onnxruntime

    from regiolect.engines.onnxruntime.session import session_options

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(names, feeds), strict=True))


class Lab:
    """A model in a store, samples of its region and the ranges seen on them."""

    def __init__(self, folder: Path, proto: onnx.ModelProto) -> None:
        self.store, self.proto = LocalStore(folder), proto
        blob = self.store.put_bytes(protos.to_bytes(proto))
        self.model = ExportedModel(
            name="net",
            source=digest_of("net"),
            graph=blob,
            reference=blob,
            inputs=(TensorSpec(name="image", shape=("batch", 3, 8, 8)),),
            outputs=("scores",),
            preprocessing=HOW,
            preprocessing_digest=digest_of(HOW),
            opset=20,
            nodes_before=1,
            nodes_after=1,
            bytes_before=1,
            bytes_after=1,
            parity=None,
        )

    def samples(self, count: int = 20, region: str = "eu", **inputs: Any) -> Samples:
        rng = np.random.default_rng(1)
        images = rng.integers(0, 256, (count, 3, 8, 8), np.uint8)
        return Samples(
            ids=np.array([f"{region}-{index}" for index in range(count)]),
            regions=np.array([region] * count),
            inputs=inputs or {"image": images},
            targets=np.zeros(count, np.int64),
        )

    def table(self, samples: Samples, without: str = "", **threshold: float) -> CalibrationTable:
        feeds = model_inputs(samples, HOW)
        names = [name for node in self.proto.graph.node for name in node.output]
        seen = {**feeds, **values_of(self.proto, names, feeds)}
        tensors = {
            name: TensorRange(
                threshold=threshold.get(name, float(np.abs(value).max())),
                minimum=float(value.min()),
                maximum=float(value.max()),
            )
            for name, value in seen.items()
            if name != without
        }
        seal = Seal(
            region="eu",
            model=self.model.graph.digest,
            preprocessing=self.model.preprocessing_digest,
            dataset=digest_of("set"),
            sample_ids=tuple(map(str, samples.ids)),
            checks=digest_of("checks"),
            made=datetime(2026, 1, 1, tzinfo=UTC),
        )
        return CalibrationTable(seal=seal, method=CalibrationMethod.MINMAX, tensors=tensors)


@pytest.fixture
def lab(tmp_path: Path) -> Callable[[onnx.ModelProto], Lab]:
    return lambda proto: Lab(tmp_path, proto)


def test_the_operator_with_uneven_channels_is_worst_and_widening_it_helps_most(lab):
    at = lab(network())
    samples = at.samples()
    table = at.table(samples)
    ranked = rank_operators(at.model, table, U8, samples, at.store)
    assert [(ranked[0].kind, ranked[0].output)] == [("Conv", "conv2")]
    assert ranked[0].error > 0.1 > 10 * ranked[1].error
    assert {operator.output for operator in ranked} == set(operators_of(at.model, U8, at.store))
    assert [operator.error for operator in ranked] == sorted((operator.error for operator in ranked), reverse=True)

    feeds = model_inputs(samples, HOW)
    reference = values_of(at.proto, ["scores"], feeds)["scores"]
    lost = {
        operator.output: np.abs(
            values_of(quantize.quantized(at.proto, U8, table.tensors, {operator.output}), ["scores"], feeds)["scores"]
            - reference
        ).mean()
        for operator in ranked
    }
    assert min(lost, key=lambda output: lost[output]) == "conv2"


@pytest.mark.arithmetic
def test_errors_are_what_quantizing_each_operator_alone_does_to_its_output(lab):
    """The same by another way: one graph for each, its output compared with the true one in float64."""
    at = lab(network())
    samples = at.samples()
    table, feeds = at.table(samples), model_inputs(samples, HOW)
    found = {each.output: each.error for each in rank_operators(at.model, table, U8, samples, at.store)}
    names = set(found)
    for output in ("conv1", "conv2", "scores"):
        true = values_of(at.proto, [output], feeds)[output].astype(np.float64)
        alone = quantize.quantized(at.proto, U8, table.tensors, names - {output})
        error = np.square(values_of(alone, [output], feeds)[output] - true).sum() / np.square(true).sum()
        assert found[output] == pytest.approx(error, rel=0.02)


def test_a_threshold_that_clips_shows_where_it_is_read(lab):
    at = lab(network())
    samples = at.samples()
    plain = rank_operators(at.model, at.table(samples), U8, samples, at.store)
    clipped = rank_operators(at.model, at.table(samples, flat=0.001), U8, samples, at.store)
    before, after = ({each.output: each.error for each in ranked} for ranked in (plain, clipped))
    assert before.pop("scores") < 0.01 and after.pop("scores") > 0.9
    assert after == before, "nothing else reads that tensor"


def test_batches_change_nothing_and_samples_are_bounded(lab, monkeypatch):
    at = lab(network())
    samples = at.samples(3 * MOST_SAMPLES)
    table, told = at.table(samples), []
    whole = rank_operators(at.model, table, U8, samples, at.store, lambda *done: told.append(done))
    assert told[-1] == (MOST_SAMPLES, MOST_SAMPLES) and len(told) == MOST_SAMPLES / 16
    monkeypatch.setattr("regiolect.repair.sensitivity._BATCH_BYTES", 1)
    single = rank_operators(at.model, table, U8, samples, at.store, lambda *done: told.append(done))
    assert told[-2:] == [(MOST_SAMPLES - 1, MOST_SAMPLES), (MOST_SAMPLES, MOST_SAMPLES)]
    assert [each.output for each in whole] == [each.output for each in single]
    for one, other in zip(whole, single, strict=True):
        assert one.error == pytest.approx(other.error, rel=1e-3)


def test_an_operator_that_is_always_zero_or_far_from_one_has_a_finite_error(lab):
    """float32 squares of 1e30 would be infinite, and zero over zero no number."""
    proto = network()
    for tensor in proto.graph.initializer:
        if tensor.name == "w3":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e30), "w3"))
        if tensor.name == "w1":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), "w1"))
    at = lab(proto)
    samples = at.samples()
    zero = rank_operators(at.model, at.table(samples), U8, samples, at.store)
    assert {each.error for each in zero} == {0.0}
    at = lab(network())
    for tensor in at.proto.graph.initializer:
        if tensor.name == "w3":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e30), "w3"))
    at = lab(at.proto)
    huge = {each.output: each.error for each in rank_operators(at.model, at.table(samples), U8, samples, at.store)}
    assert 0 < huge["scores"] < 0.01


def test_what_does_not_belong_together_is_refused(lab):
    at = lab(network())
    samples = at.samples()
    table = at.table(samples)
    with pytest.raises(ForeignCalibration, match="sea"):
        rank_operators(at.model, table, U8, at.samples(region="sea"), at.store)
    other = at.model.model_copy(update={"graph": at.store.put_bytes(b"another graph")})
    with pytest.raises(ForeignCalibration):
        rank_operators(other, table, U8, samples, at.store)
    with pytest.raises(MissingThreshold, match="'uneven'"):
        rank_operators(at.model, at.table(samples, without="uneven"), U8, samples, at.store)
    with pytest.raises(InvalidSamples, match="samples with the inputs of 'net': image"):
        rank_operators(at.model, table, U8, at.samples(picture=np.zeros((20, 3, 8, 8), np.uint8)), at.store)
    with pytest.raises(InvalidSamples):
        rank_operators(at.model, table, U8, at.samples(image=np.zeros((20, 3, 8), np.uint8)), at.store)
    with pytest.raises(UnsupportedOperator, match="to quantize"):
        rank_operators(at.model, table, U8.model_copy(update={"operators": ("LSTM",)}), samples, at.store)


def test_a_group_normalization_takes_as_much_memory_as_one_by_instance() -> None:
    """ONNX tells no shapes behind the first, and its values were not counted."""

    def fitting(kind: str, **attributes: int) -> int:
        nodes = [
            helper.make_node(kind, ["x", "s", "b"], ["n"], **attributes),
            helper.make_node("Relu", ["n"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["y"]),
        ]
        held = [numpy_helper.from_array(np.ones(8, np.float32), name) for name in "sb"]
        shapes = {"x": ["batch", 8, 1024, 1024], "y": ["batch", 8, 1, 1]}
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
        graph = helper.make_graph(nodes, "normalized", [x], [y], held)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        return _fitting_batch(model, {"x": np.zeros((1, 8, 1024, 1024), np.float32)})

    by_instance = fitting("InstanceNormalization")
    assert by_instance < 16, "else nothing is shown"
    assert fitting("GroupNormalization", num_groups=4) == by_instance

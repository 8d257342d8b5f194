"""A small residual network made node by node, real thresholds for it, and the real consumers of its graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    ExportedModel,
    Preprocessing,
    Seal,
    TensorRange,
    TensorSpec,
)
from regiolect.graphs import protos
from regiolect.integrity import digest_of
from regiolect.storage import LocalStore
from tests.rtx import tensorrt_rtx

Ranges = Mapping[str, TensorRange]


def _model(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, list[Any]],
    outputs: Mapping[str, list[Any]],
    weights: Mapping[str, NDArray[Any]],
    opset: int = 18,
) -> ModelProto:
    for index, node in enumerate(nodes):
        node.name = node.name or f"node_{index}"
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _residual_net(opset: int = 18) -> ModelProto:
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> NDArray[np.float32]:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["conv1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("Conv", ["relu1", "w2", "b2"], ["conv2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["conv2", "relu1"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["relu2"]),
        helper.make_node("GlobalAveragePool", ["relu2"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["y"], transB=1),
    ]
    weights = {
        "w1": weight(8, 3, 3, 3),
        "b1": weight(8),
        "w2": weight(8, 8, 3, 3),
        "b2": weight(8),
        "w3": weight(10, 8),
        "b3": weight(10),
    }
    return _model(nodes, {"x": ["batch", 3, 16, 16]}, {"y": ["batch", 10]}, weights, opset)


def _run(model: ModelProto | bytes, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    from regiolect.engines.onnxruntime.session import open_graph, session_options

    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = open_graph(data, session_options(threads=1))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _ranges(model: ModelProto, feeds: Mapping[str, NDArray[Any]]) -> dict[str, TensorRange]:
    inferred = onnx.shape_inference.infer_shapes(model)
    floats = [info for info in inferred.graph.value_info if info.type.tensor_type.elem_type == TensorProto.FLOAT]
    inferred.graph.output.extend(floats)
    return {
        name: TensorRange(threshold=float(np.abs(value).max()), minimum=float(value.min()), maximum=float(value.max()))
        for name, value in {**feeds, **_run(inferred, feeds)}.items()
    }


def _trt_plan_size(model: bytes, shape: tuple[int, ...]) -> int:
    trt = tensorrt_rtx()
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model), [parser.get_error(index).desc() for index in range(parser.num_errors)]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape(network.get_input(0).name, (1, *shape), (2, *shape), (4, *shape))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    return int(plan.nbytes)


@pytest.fixture
def make_model() -> Callable[..., ModelProto]:
    return _model


@pytest.fixture
def residual_net() -> Callable[..., ModelProto]:
    return _residual_net


@pytest.fixture(scope="session")
def run() -> Callable[..., dict[str, NDArray[Any]]]:
    """Outputs by name, from ONNX Runtime."""
    return _run


@pytest.fixture
def run_as_typed() -> Callable[..., NDArray[Any]]:
    """The first output, every tensor in the type that the graph gives it; ONNX Runtime's CPU kernels are wider."""
    from onnx.reference import ReferenceEvaluator

    def _run_as_typed(model: ModelProto, feeds: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(ReferenceEvaluator(model).run(None, dict(feeds))[0])

    return _run_as_typed


@pytest.fixture(scope="session")
def ranges_of() -> Callable[..., dict[str, TensorRange]]:
    """Minimum and maximum of every float tensor of a model on given inputs; the threshold is the larger magnitude."""
    return _ranges


@pytest.fixture
def trt_plan_size() -> Callable[[bytes, tuple[int, ...]], int]:
    """Bytes of the plan that TensorRT-RTX builds from a strongly typed parse; fails when it refuses the graph."""
    return _trt_plan_size


@pytest.fixture
def images() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(4, 3, 16, 16)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(scope="session")
def keep_in() -> Callable[[LocalStore, ModelProto], ExportedModel]:
    """Put a graph in a store as an exported model."""

    def _keep(store: LocalStore, model: ModelProto) -> ExportedModel:
        blob = store.put_bytes(protos.to_bytes(model))
        size = len(model.graph.node)
        return ExportedModel(
            name="net",
            source=digest_of("source of net"),
            graph=blob,
            reference=blob,
            inputs=tuple(TensorSpec(name=value.name, shape=("batch", 3, 16, 16)) for value in model.graph.input),
            outputs=tuple(value.name for value in model.graph.output),
            preprocessing=Preprocessing(),
            preprocessing_digest=digest_of(Preprocessing()),
            opset=protos.opset(model),
            nodes_before=size,
            nodes_after=size,
            bytes_before=blob.size,
            bytes_after=blob.size,
            parity=None,
        )

    return _keep


@pytest.fixture
def keep(store: LocalStore, keep_in: Callable[[LocalStore, ModelProto], ExportedModel]) -> Callable[..., ExportedModel]:
    """Put a graph in the test's own store as an exported model."""
    return partial(keep_in, store)


@pytest.fixture
def table_of() -> Callable[..., CalibrationTable]:
    def _table(model: ExportedModel, ranges: Ranges, region: str = "na") -> CalibrationTable:
        seal = Seal(
            region=region,
            model=model.graph.digest,
            preprocessing=model.preprocessing_digest,
            dataset=digest_of("images of na"),
            sample_ids=("a", "b", "c", "d"),
            checks=digest_of("checks of na"),
            made=datetime(2026, 1, 1, tzinfo=UTC),
        )
        return CalibrationTable(seal=seal, method=CalibrationMethod.MINMAX, tensors=dict(ranges))

    return _table

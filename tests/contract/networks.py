"""Networks of a few layers, and what an engine answers beside what its graph says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from regiolect.contracts import BatchProfile, BuildRequest, Performance, Precision, Target, TensorSpec
from regiolect.engines.catalog import backend
from regiolect.graphs import protos
from regiolect.integrity import digest_bytes
from regiolect.storage import LocalStore

CPU_BACKENDS = ("openvino", "onnxruntime")
Array = NDArray[np.float32]


def network(
    nodes: list[NodeProto], shape: tuple[int, ...], weights: Mapping[str, Array], opset: int = 20
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    )


def answer_of_engine(name: str, graph: ModelProto, x: Array, shape: tuple[int, ...], store: LocalStore) -> Array:
    request = BuildRequest(
        model="layers",
        region="eu",
        target=Target(name="here", backend=name),
        precision=Precision.INT8,
        graph=store.put_bytes(protos.to_bytes(graph)),
        inputs=(TensorSpec(name="x", shape=("batch", *shape)),),
        outputs=("y",),
        profile=BatchProfile(min=1, opt=2, max=2),
        performance=Performance.LATENCY,
        policy=digest_bytes(b"policy"),
        build_key=digest_bytes(b"key"),
    )
    builder = backend(name)
    return np.asarray(builder.load(builder.build(request, store), store).run({"x": x})["y"])


def require_product(name: str, model: ModelProto, graph: ModelProto, store: LocalStore) -> None:
    """That an engine of a graph answers as the model is defined, but for a step of the answer."""
    require_same(*products(name, model, graph, store))


def products(name: str, model: ModelProto, graph: ModelProto, store: LocalStore) -> tuple[Array, Array]:
    """What an engine of a graph answers to two samples, and what the model does as it is defined."""
    x = np.random.default_rng(0).uniform(4, 6, (2, 8, 16)).astype(np.float32)
    (right,) = ReferenceEvaluator(model).run(["y"], {"x": x})
    return answer_of_engine(name, graph, x, (8, 16), store), np.asarray(right)


def require_same(found: Array, right: Array) -> None:
    np.testing.assert_allclose(found, right, atol=0.015 * np.abs(right).max())

"""A small residual network as every typed graph, and what is needed to build engines from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import (
    BatchProfile,
    Blob,
    BuildRequest,
    Performance,
    Precision,
    Target,
    TensorSpec,
)
from regiolect.engines.catalog import backend
from regiolect.graphs.qdq import weight_scales
from regiolect.integrity import digest_bytes
from regiolect.precision import Recipe
from regiolect.storage import LocalStore

CHANNELS, SIDE, CLASSES = 16, 16, 10


class _Writer:
    """Writes the network by a recipe: two convolutions with a residual, pooling and a Gemm."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.float = np.float16 if recipe.remainder is Precision.FP16 else np.float32
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(7)

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], f"{output}/{kind}", **attributes))
        return output

    def constant(self, name: str, value: object) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def quantized(self, tensor: str, largest: float, signed: bool) -> str:
        if self.recipe.activation is None:
            return tensor
        if f"{tensor}.d" not in {node.output[0] for node in self.nodes}:
            unsigned = self.recipe.activation == "uint8"
            kind = np.uint8 if unsigned else np.int8
            scale = self.constant(f"{tensor}.s", self.float(largest / (255 if unsigned and not signed else 127)))
            zero = self.constant(f"{tensor}.z", kind(128 if unsigned and signed else 0))
            self.node("QuantizeLinear", [tensor, scale, zero], f"{tensor}.q")
            self.node("DequantizeLinear", [f"{tensor}.q", scale, zero], f"{tensor}.d")
        return f"{tensor}.d"

    def weight(self, name: str, *shape: int) -> str:
        value = self.rng.normal(size=shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        if self.recipe.activation is None:
            return self.constant(name, value.astype(self.float))
        scale = weight_scales(value, 0, self.float, pairs_in_int16=self.recipe.pairs_in_int16)
        rounded = np.round(value / scale.reshape(-1, *[1] * (len(shape) - 1)))
        parts = [
            self.constant(f"{name}.q", rounded.astype(np.int8)),
            self.constant(f"{name}.s", scale.astype(self.float)),
            self.constant(f"{name}.z", np.zeros(shape[0], np.int8)),
        ]
        return self.node("DequantizeLinear", parts, name, axis=0)

    def bias(self, name: str, size: int) -> str:
        return self.constant(name, (self.rng.normal(size=size) * 0.1).astype(self.float))

    def model(self) -> onnx.ModelProto:
        half = self.float is np.float16
        x = self.node("Cast", ["x"], "x.half", to=TensorProto.FLOAT16) if half else "x"
        first = [self.quantized(x, 4.0, True), self.weight("w1", CHANNELS, 3, 3, 3), self.bias("b1", CHANNELS)]
        r1 = self.node("Relu", [self.node("Conv", first, "c1", pads=[1] * 4)], "r1")
        second = [
            self.quantized(r1, 4.0, False),
            self.weight("w2", CHANNELS, CHANNELS, 3, 3),
            self.bias("b2", CHANNELS),
        ]
        c2 = self.node("Conv", second, "c2", pads=[1] * 4)
        summed = (
            [self.quantized(c2, 4.0, True), self.quantized(r1, 4.0, False)] if self.recipe.residual_add else [c2, r1]
        )
        r2 = self.node("Relu", [self.node("Add", summed, "sum")], "r2")
        pooled = self.node("MaxPool", [r2], "pooled", kernel_shape=[2, 2], strides=[2, 2])
        flat = self.node("Flatten", [self.node("GlobalAveragePool", [pooled], "mean")], "flat")
        last = [self.quantized(flat, 3.0, False), self.weight("w3", CLASSES, CHANNELS), self.bias("b3", CLASSES)]
        y = self.node("Gemm", last, "y.half" if half else "y", transB=1)
        if half:
            self.node("Cast", [y], "y", to=TensorProto.FLOAT)
        graph = helper.make_graph(
            self.nodes,
            "residual",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model


@pytest.fixture
def write_graph() -> Callable[[Recipe], onnx.ModelProto]:
    """Writes the network by a recipe; the weights are the same each time."""
    return lambda recipe: _Writer(recipe).model()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def request_for(store: LocalStore, write_graph: Callable[[Recipe], onnx.ModelProto]) -> Callable[..., BuildRequest]:
    """A build request for a backend and a precision; the graph is written by the backend's own recipe."""

    def make(
        name: str,
        precision: Precision,
        profile: BatchProfile | None = None,
        performance: Performance = Performance.LATENCY,
        graph: Blob | None = None,
    ) -> BuildRequest:
        model = write_graph(backend(name).recipe_here(precision)).SerializeToString()
        return BuildRequest(
            model="residual",
            region="eu",
            target=Target(name="here", backend=name),
            precision=precision,
            graph=graph or store.put_bytes(model),
            inputs=(TensorSpec(name="x", shape=("batch", 3, SIDE, SIDE)),),
            outputs=("y",),
            profile=profile or BatchProfile(min=1, opt=4, max=8),
            performance=performance,
            policy=digest_bytes(b"policy"),
            build_key=digest_bytes(f"{name}{precision}{performance}".encode()),
        )

    return make


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(8, 3, SIDE, SIDE)).astype(np.float32)


@pytest.fixture
def reference(write_graph: Callable[[Recipe], onnx.ModelProto], samples: np.ndarray) -> np.ndarray:
    """ONNX Runtime's FP32 answer on `samples`."""
    session = onnxruntime.InferenceSession(
        write_graph(Recipe()).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (answer,) = session.run(None, {"x": samples})
    return answer

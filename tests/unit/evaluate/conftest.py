"""A tiny classifier with SIMULATED samples, as a model, as engines, and as a quantized file with its original."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import (
    BatchProfile,
    BuildRequest,
    EngineArtifact,
    EvaluationResult,
    ExportedModel,
    Performance,
    Precision,
    SampleSet,
    Split,
    Target,
    TensorSpec,
)
from regiolect.data import Samples, samples_to_bytes
from regiolect.engines.catalog import backend
from regiolect.evaluate.evaluate import evaluate_engine
from regiolect.evaluate.metrics import top1
from regiolect.export import export_model
from regiolect.integrity import digest_bytes
from regiolect.model import ModelSpec
from regiolect.policy import AccuracyLimit, RegionPolicy
from regiolect.storage import LocalStore

CLASSES, FEATURES = 4, 8
HEAD = np.random.default_rng(3).normal(size=(FEATURES, CLASSES)).astype(np.float32)


def dense(*nodes: Any, start: str = "x", end: str = "y", **constants: Any) -> onnx.ModelProto:
    """x (batch, 8) -> [nodes ->] MatMul [-> nodes] -> y (batch, 4)."""
    graph = helper.make_graph(
        sorted([*nodes, helper.make_node("MatMul", [start, "h"], [end])], key=lambda node: node.output[0] == "y"),
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in {"h": HEAD, **constants}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def quantized(scale: float) -> onnx.ModelProto:
    """The same with int8 inputs of a given scale."""
    return dense(
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        start="d",
        s=np.float32(scale),
        z=np.int8(0),
    )


@dataclass(frozen=True)
class Lab:
    """Everything that an evaluation takes, each part to be replaced by a test."""

    folder: Path
    store: LocalStore

    def samples(self, count: int = 60, region: str = "eu") -> Samples:
        rng = np.random.default_rng(count)
        features = rng.normal(size=(count, FEATURES)).astype(np.float32)
        return Samples(
            ids=np.array([f"{region}-{index:03}" for index in range(count)]),
            regions=np.full(count, region),
            inputs={"x": features},
            targets=(features @ HEAD).argmax(axis=1),
        )

    def gate(self, samples: Samples, **changes: Any) -> SampleSet:
        blob = self.store.put_bytes(samples_to_bytes(samples))
        fields = {"region": "eu", "split": Split.GATE, "samples": len(samples), "blob": blob}
        return SampleSet(**{**fields, **changes})

    def spec(self, model: onnx.ModelProto | None = None, **changes: Any) -> ModelSpec:
        path = self.folder / "model.onnx"
        path.write_bytes((model or dense()).SerializeToString())
        settings: dict[str, Any] = {
            "name": "dense",
            "loader": path,
            "inputs": (TensorSpec(name="x", shape=("batch", FEATURES)),),
            "outputs": ("y",),
            "metrics": {"accuracy": top1},
            "data": {},
        }
        return ModelSpec(**{**settings, **changes})

    def exported(self, spec: ModelSpec) -> ExportedModel:
        return export_model(spec, self.store, None)

    def engine(self, model: ExportedModel, proto: onnx.ModelProto | None = None, **changes: Any) -> EngineArtifact:
        """An ONNX Runtime engine of the model, or of another graph in its name."""
        name = changes.pop("backend", "onnxruntime")
        fields: dict[str, Any] = {
            "model": model.name,
            "region": "eu",
            "target": Target(name="cpu", backend=name),
            "precision": Precision.FP32,
            "graph": model.graph if proto is None else self.store.put_bytes(proto.SerializeToString()),
            "inputs": model.inputs,
            "outputs": model.outputs,
            "profile": BatchProfile(min=1, opt=4, max=16),
            "performance": Performance.LATENCY,
            "policy": digest_bytes(b"policy"),
            "build_key": digest_bytes(b"build"),
        }
        return backend(name).build(BuildRequest(**{**fields, **changes}), self.store)

    def policy(self, **changes: Any) -> RegionPolicy:
        fields: dict[str, Any] = {
            "region": "eu",
            "title": "Europe",
            "reason": "stated here for the tests of the evaluation alone",
            "precision": Precision.FP32,
            "accuracy": AccuracyLimit(metric="accuracy", limit=5.0),
            "batch": BatchProfile(min=1, opt=4, max=16),
            "targets": (Target(name="cpu", backend="onnxruntime"),),
        }
        return RegionPolicy(**{**fields, **changes})

    def evaluate(self, **parts: Any) -> EvaluationResult:
        """Evaluate; `spec`, `model`, `artifact`, `gate`, `policy` as given, or the ones that fit."""
        spec = parts.get("spec") or self.spec()
        model = parts.get("model") or self.exported(spec)
        return evaluate_engine(
            spec,
            model,
            parts.get("artifact") or self.engine(model),
            parts.get("gate") or self.gate(self.samples()),
            parts.get("policy") or self.policy(),
            self.store,
        )


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, LocalStore(tmp_path / "store"))


@pytest.fixture
def dense_graph() -> Callable[..., onnx.ModelProto]:
    return dense


@pytest.fixture
def quantized_graph() -> Callable[[float], onnx.ModelProto]:
    return quantized


@pytest.fixture
def always() -> Callable[[Any], Callable[[Mapping[str, NDArray[Any]], NDArray[Any]], Any]]:
    """A metric that returns the same whatever it is given."""
    return lambda scores: lambda outputs, targets: scores

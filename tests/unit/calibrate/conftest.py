"""A small residual network, samples of two regions, and both in a real store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import (
    CheckResult,
    DeclaredStatistics,
    ExportedModel,
    Preprocessing,
    RegionDataset,
    SampleSet,
    Split,
    TensorSpec,
    ValidatedCalibration,
)
from regiolect.data import Samples, samples_to_bytes
from regiolect.integrity import digest_of
from regiolect.storage import LocalStore


def _network(seed: int = 0) -> onnx.ModelProto:
    """Two convolutions with a residual around the second, a MatMul of two activations, a classifier."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype("f4"), name)

    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["conv1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("Conv", ["relu1", "w2"], ["conv2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["conv2", "relu1"], ["sum"]),
        helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.float32([0.5]))),
        helper.make_node("Add", ["sum", "half"], ["shifted"]),
        helper.make_node("Transpose", ["shifted"], ["turned"], perm=[1, 0, 3, 2]),
        helper.make_node("Transpose", ["turned"], ["upright"], perm=[1, 0, 2, 3]),
        helper.make_node("MatMul", ["shifted", "upright"], ["product"]),
        helper.make_node("GlobalAveragePool", ["product"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 5])],
        [weight("w1", 4, 3, 3, 3), weight("w2", 4, 4, 3, 3), weight("w3", 5, 4), weight("b3", 5)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@dataclass(frozen=True)
class Workshop:
    """Makes exported models and validated data in one store."""

    store: LocalStore

    def model(self, proto: onnx.ModelProto | None = None, **changes: Any) -> ExportedModel:
        proto = _network() if proto is None else proto
        graph = self.store.put_bytes(proto.SerializeToString(deterministic=True))
        preprocessing = changes.pop("preprocessing", Preprocessing(scale=1 / 255, mean=(0.5,), std=(0.25,)))
        fields = {
            "name": "net",
            "source": digest_of("net"),
            "graph": graph,
            "reference": graph,
            "inputs": (TensorSpec(name="image", shape=("batch", 3, 6, 6)),),
            "outputs": ("scores",),
            "preprocessing": preprocessing,
            "preprocessing_digest": digest_of(preprocessing),
            "opset": 20,
            "nodes_before": len(proto.graph.node),
            "nodes_after": len(proto.graph.node),
            "bytes_before": graph.size,
            "bytes_after": graph.size,
            "parity": None,
        }
        return ExportedModel(**{**fields, **changes})

    def data(
        self,
        samples: Samples,
        region: str = "eu",
        calibration_region: str = "eu",
        recorded: int | None = None,
        **changes: Any,
    ) -> ValidatedCalibration:
        blob = self.store.put_bytes(samples_to_bytes(samples))
        fields = {"split": Split.CALIBRATION, "samples": recorded or len(samples), "blob": blob, **changes}
        own = SampleSet(region=calibration_region, **fields)
        dataset = RegionDataset(
            region=region,
            calibration=own,
            selection=own.model_copy(update={"split": Split.SELECTION}),
            gate=own.model_copy(update={"split": Split.GATE}),
            declared=DeclaredStatistics(mean=(0.0, 255.0), std=(0.0, 255.0)),
        )
        passed = CheckResult(expectation="any", split="all", passed=True, expected="", observed="")
        return ValidatedCalibration(dataset=dataset, checks=(passed,))


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(LocalStore(tmp_path))


@pytest.fixture
def network() -> Callable[..., onnx.ModelProto]:
    return _network


@pytest.fixture
def samples() -> Samples:
    rng = np.random.default_rng(1)
    count = 11
    images: NDArray[np.uint8] = rng.integers(0, 256, (count, 3, 6, 6), np.uint8)
    return Samples(
        ids=np.array([f"eu-{index:03}" for index in range(count)]),
        regions=np.array(["eu"] * count),
        inputs={"image": images},
        targets=np.zeros(count, np.int64),
    )


@pytest.fixture
def float_samples(samples: Samples) -> Callable[[], Samples]:
    """The same samples as writable float32, so that a test can poison one."""
    return lambda: replace(samples, inputs={"image": samples.inputs["image"].astype(np.float32)})

"""A small network, built and loaded for real, that tests of serving ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import (
    BatchProfile,
    BuildRequest,
    DimensionProfile,
    EngineArtifact,
    Performance,
    Precision,
    Target,
    TensorSpec,
)
from regiolect.engines.catalog import backend
from regiolect.integrity import digest_bytes
from regiolect.storage import LocalStore


def network() -> bytes:
    """`total`: what is in every row of x, (batch, 3, width), times 2; as wide as anybody likes."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "two"], ["doubled"], name="double"),
            helper.make_node("ReduceSum", ["doubled", "axis"], ["total"], name="sum", keepdims=0),
        ],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "width"])],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.array(2, np.float32), "two"),
            numpy_helper.from_array(np.array([2], np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def built(store: LocalStore) -> Callable[..., EngineArtifact]:
    """Builds the network by a backend; widths from 1 to 8, or padded to 4 and 8."""

    def build(name: str = "onnxruntime", buckets: tuple[int, ...] = (), **profile: int) -> EngineArtifact:
        request = BuildRequest(
            model="sums",
            region="me",
            target=Target(name="here", backend=name),
            precision=Precision.FP32,
            graph=store.put_bytes(network()),
            inputs=(TensorSpec(name="x", shape=("batch", 3, "width")),),
            outputs=("total",),
            profile=BatchProfile(**({"min": 1, "opt": 4, "max": 8} | profile)),
            shapes={"width": DimensionProfile(min=1, opt=4, max=8, buckets=buckets)},
            performance=Performance.LATENCY,
            policy=digest_bytes(b"policy"),
            build_key=digest_bytes(b"key"),
        )
        return backend(name).build(request, store)

    return build

"""Sessions are opened in one way, which leaves out what crashes ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

import regiolect
from regiolect.calibrate.watched import watched
from regiolect.contracts import TensorSpec
from regiolect.engines.onnxruntime.session import open_session
from regiolect.errors import EngineCrashed
from regiolect.evaluate.reference import reference_outputs
from regiolect.export.parity import ort_runner
from regiolect.host.isolated import Child, Limits
from regiolect.model import ModelSpec
from regiolect.repair import sensitivity
from regiolect.storage import LocalStore
from tests.conftest import Bundles

SHAPE = ("batch", 4, 8)
WEIGHTS = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float16)
X = np.random.default_rng(1).normal(size=(3, 4, 8)).astype(np.float16)


def sequence_first(kind: int = TensorProto.FLOAT) -> ModelProto:
    """A dense layer over a sequence whose batch comes second, as inside of a transformer, and back again.

    Args:
        kind: of input and output. FLOAT16 is what an FP16 region gets. FLOAT casts to it, and back before the product,
            as a model may by itself.
    """
    half = kind == TensorProto.FLOAT16
    weights = WEIGHTS if half else WEIGHTS.astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Transpose", ["half"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("Cast", ["turned"], ["wide"], to=kind),
        helper.make_node("MatMul", ["wide", "weights"], ["product"]),
        helper.make_node("Transpose", ["product"], ["y"], perm=[1, 0, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "sequence-first",
        [helper.make_tensor_value_info("x", kind, SHAPE)],
        [helper.make_tensor_value_info("y", kind, SHAPE)],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


# Each is called in a child: a crash would take all tests along.


def without_our_options(model: bytes) -> None:
    onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def of_an_engine(kind: int, folder: Path) -> NDArray[Any]:
    x = X if kind == TensorProto.FLOAT16 else X.astype(np.float32)
    (answer,) = open_session(sequence_first(kind).SerializeToString()).run(None, {"x": x})
    return np.asarray(answer)


def of_the_reference(folder: Path) -> NDArray[Any]:
    bundles = _bundles(folder)
    exported = bundles.exported(sequence_first().SerializeToString())
    return reference_outputs(exported, {"x": X.astype(np.float32)}, bundles.store)["y"]


def of_parity(folder: Path) -> NDArray[Any]:
    spec = ModelSpec(
        name="turned",
        loader=folder / "turned.onnx",
        inputs=(TensorSpec(name="x", shape=SHAPE),),
        outputs=("y",),
        metrics={"any": lambda outputs, targets: targets},
        data={},
    )
    return ort_runner(spec, sequence_first().SerializeToString())({"x": X.astype(np.float32)})[0]


def of_calibration(folder: Path) -> NDArray[Any]:
    bundles = _bundles(folder)
    graph = watched(bundles.exported(sequence_first().SerializeToString()), bundles.store, ["y"])
    return graph.run({"x": X.astype(np.float32)})["y"]


def of_sensitivity(folder: Path) -> NDArray[Any]:
    session = sensitivity._open(sequence_first(), _bundles(folder).exported())
    return np.asarray(session.run(["y"], {"x": X.astype(np.float32)})[0])


def _bundles(folder: Path) -> Bundles:
    return Bundles(LocalStore(folder), "turned", (TensorSpec(name="x", shape=SHAPE),), ("y",))


@pytest.fixture
def child() -> Child:
    return Child("a test", Limits(memory_bytes=1 << 36, seconds=240))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.FLOAT])
def test_onnxruntime_crashes_in_the_fusion_that_is_left_out(child: Child, kind: int) -> None:
    """Where this fails, ONNX Runtime was mended, and nothing has to be left out any more."""
    with child, pytest.raises(EngineCrashed, match="died by SIGSEGV"):
        child.run(without_our_options, sequence_first(kind).SerializeToString())


@pytest.mark.parametrize(
    "place",
    [
        partial(of_an_engine, TensorProto.FLOAT16),
        partial(of_an_engine, TensorProto.FLOAT),
        of_the_reference,
        of_parity,
        of_calibration,
        of_sensitivity,
    ],
    ids=["engine-fp16", "engine-fp32", "reference", "parity", "calibration", "sensitivity"],
)
def test_every_session_of_ours_takes_such_a_graph(
    place: Callable[[Path], NDArray[Any]], child: Child, tmp_path: Path
) -> None:
    (tmp_path / "turned.onnx").touch()
    with child:
        answer = child.run(_call, place, tmp_path)
    np.testing.assert_allclose(answer, X.astype(np.float32) @ WEIGHTS.astype(np.float32), atol=0.03)


def _call(place: Callable[[Path], NDArray[Any]], folder: Path) -> NDArray[Any]:
    return place(folder)


def test_no_session_is_opened_with_other_options() -> None:
    sources = list(Path(regiolect.__file__).parent.rglob("*.py"))
    assert [file.name for file in sources if "onnxruntime.SessionOptions()" in file.read_text()] == ["session.py"]

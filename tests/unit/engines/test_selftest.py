"""An INT8 engine is asked when it is loaded what its judge asked, and must answer as it did there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import (
    Arithmetic,
    BatchProfile,
    BuildRequest,
    EngineArtifact,
    Performance,
    Precision,
    Target,
    TensorSpec,
)
from regiolect.data import npz_bytes
from regiolect.engines.catalog import backend
from regiolect.engines.selftest import Probes, distances, kept_values, self_test, tolerances
from regiolect.errors import IntegrityError, SelfTestFailed
from regiolect.integrity import digest_bytes
from regiolect.storage import LocalStore

WIDE = 16


def summing(weight: int) -> bytes:
    """y (batch, 4): the sum of x (batch, 16), times weight / 127, by uint8 x int8 products."""
    weights = np.full((WIDE, 4), weight, np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["qx"]),
        helper.make_node("DequantizeLinear", ["qx", "sx", "zx"], ["dx"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["dw"]),
        helper.make_node("MatMul", ["dx", "dw"], ["y"], name="sum"),
    ]
    held: dict[str, NDArray[Any]] = {
        "sx": np.float32(1 / 255),
        "zx": np.uint8(0),
        "w": weights,
        "sw": np.float32(1 / 127),
        "zw": np.int8(0),
    }
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def built(store: LocalStore, weight: int, name: str = "openvino") -> EngineArtifact:
    request = BuildRequest(
        model="sum",
        region="eu",
        target=Target(name="here", backend=name),
        precision=Precision.INT8,
        graph=store.put_bytes(summing(weight)),
        inputs=(TensorSpec(name="x", shape=("batch", WIDE)),),
        outputs=("y",),
        profile=BatchProfile(min=1, opt=4, max=8),
        performance=Performance.LATENCY,
        policy=digest_bytes(b"policy"),
        build_key=digest_bytes(b"key"),
    )
    return backend(name).build(request, store)


def probes_of(weight: int) -> Probes:
    """Inputs up to the largest, with the answers that exact arithmetic gives; a hundredth of a unit is tolerated."""
    inputs = {"x": np.outer(np.arange(6) / 5, np.ones(WIDE)).astype(np.float32)}
    answers = {"y": (inputs["x"] @ np.full((WIDE, 4), weight / 127)).astype(np.float32)}
    return Probes(inputs, answers, {"y": np.full(6, 0.01)})


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_an_engine_that_answers_as_it_did_passes_and_tells_how_near_it_was(store) -> None:
    artifact = built(store, 63)
    blob = store.put_bytes(probes_of(63).to_bytes())
    passed = self_test(backend("openvino").load(artifact, store), store.path_of(blob), blob)
    assert passed.probes == 6
    assert 0 <= passed.share <= 1
    assert passed.seconds > 0


def test_one_that_answers_otherwise_is_named_with_both_distances(store) -> None:
    artifact = built(store, 62)
    blob = store.put_bytes(probes_of(63).to_bytes())
    engine = backend("openvino").load(artifact, store)
    # 16 * (63 - 62) / 127 for the largest input; the first, all zeros, is answered right.
    with pytest.raises(SelfTestFailed, match=r"output 'y'.*within 0.01 .*0.126 away .* on 5 of 6 probes"):
        self_test(engine, store.path_of(blob), blob)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_within_nothing(store, wrong) -> None:
    told = probes_of(63)
    told.answers["y"][2] = wrong
    blob = store.put_bytes(told.to_bytes())
    with pytest.raises(SelfTestFailed, match=r"(nan|inf) away"):
        self_test(backend("openvino").load(built(store, 63), store), store.path_of(blob), blob)


def test_outputs_of_other_shapes_are_another_engines(store) -> None:
    told = probes_of(63)
    blob = store.put_bytes(Probes(told.inputs, {"y": told.answers["y"][:, :2]}, told.tolerances).to_bytes())
    with pytest.raises(SelfTestFailed, match="shapes"):
        self_test(backend("openvino").load(built(store, 63), store), store.path_of(blob), blob)


_CHILD = """
import sys
from pathlib import Path
from regiolect.contracts import Blob, EngineArtifact
from regiolect.engines.catalog import backend
from regiolect.engines.selftest import self_test
from regiolect.errors import SelfTestFailed
from regiolect.storage import LocalStore

store = LocalStore(Path(sys.argv[1]))
artifact, blob = EngineArtifact.model_validate_json(sys.argv[2]), Blob.model_validate_json(sys.argv[3])
try:
    print("passed", self_test(backend("openvino").load(artifact, store), store.path_of(blob), blob).share)
except SelfTestFailed as error:
    print("failed:", error.found)
"""


def where_products_saturate(store: LocalStore, artifact: EngineArtifact, probes: Probes) -> str:
    """What the self-test says in a process whose kernels are those of AVX2, whatever this machine has, where the
    engine claims to have been judged on such a machine."""
    request = artifact.request.model_copy(update={"arithmetic": Arithmetic.SATURATING})
    claimed = artifact.model_copy(update={"request": request, "fingerprint": {**artifact.fingerprint, "isa": "avx2"}})
    blob = store.put_bytes(probes.to_bytes())
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(store.root), claimed.model_dump_json(), blob.model_dump_json()],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_kernel_that_saturates_fails_what_exact_sums_passed(store) -> None:
    """Eight-bit weights against what exact arithmetic answers; the same with seven bits is right everywhere."""
    assert where_products_saturate(store, built(store, 127), probes_of(127)).startswith("failed: ")
    assert where_products_saturate(store, built(store, 63), probes_of(63)).startswith("passed")


def test_probes_are_the_same_bytes_and_come_back_as_they_were() -> None:
    told = probes_of(5)
    assert told.to_bytes() == probes_of(5).to_bytes()
    back = Probes.from_bytes(told.to_bytes())
    for name in ("inputs", "answers", "tolerances"):
        for key, array in getattr(told, name).items():
            np.testing.assert_array_equal(getattr(back, name)[key], array)


@pytest.mark.parametrize(
    "arrays",
    [
        {"input:x": np.zeros((2, 3)), "answer:y": np.zeros((2, 1))},
        {"input:x": np.zeros((2, 3)), "answer:y": np.zeros((2, 1)), "tolerance:z": np.zeros(2)},
        {"input:x": np.zeros((2, 3)), "answer:y": np.zeros((3, 1)), "tolerance:y": np.zeros(3)},
        {"input:x": np.zeros((0, 3)), "answer:y": np.zeros((0, 1)), "tolerance:y": np.zeros(0)},
    ],
    ids=["no tolerance", "of another output", "other rows", "no rows"],
)
def test_probes_that_could_pass_anything_are_none(arrays) -> None:
    with pytest.raises(IntegrityError, match="probes of a self-test"):
        Probes.from_bytes(npz_bytes(arrays))


def test_a_damaged_file_is_named() -> None:
    for data in (b"", b"PK\x03\x04", probes_of(5).to_bytes()[:-40]):
        with pytest.raises(IntegrityError, match="fetch the bundle again"):
            Probes.from_bytes(data)


def test_another_file_than_the_signed_one_is_not_read(store) -> None:
    signed, other = (store.put_bytes(probes_of(weight).to_bytes()) for weight in (63, 62))
    engine = backend("openvino").load(built(store, 62), store)
    with pytest.raises(IntegrityError):
        self_test(engine, store.path_of(other), signed)


def test_tolerances_are_the_engines_own_distance_and_never_less_than_the_usual_one() -> None:
    answers = {"y": np.array([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]], np.float32)}
    reference = {"y": np.array([[0.0, 0.0], [1.0, 1.5], [5.0, 8.0]], np.float32)}
    own = np.sqrt(np.array([0.0, 0.125, 4.5]))
    np.testing.assert_allclose(distances(answers, reference)["y"], own)
    np.testing.assert_allclose(tolerances(answers, reference)["y"], [own[1], own[1], own[2]])


def test_of_a_large_output_values_at_equal_distances_are_kept() -> None:
    large = np.arange(2 * 100_000, dtype=np.float32).reshape(2, 1, 100, 1000)
    kept = kept_values({"mask": large, "class": np.zeros((2, 10))})
    assert kept["mask"].shape == (2, 4096)
    assert (kept["mask"][:, 0] == [0, 100_000]).all() and (kept["mask"][:, -1] == [99_999, 199_999]).all()
    assert kept["class"].shape == (2, 10)

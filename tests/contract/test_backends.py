"""What every backend in the catalog promises, on real engines built from one small network."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from regiolect.attest import attest
from regiolect.contracts import BatchProfile, BuildRequest, EngineArtifact, Execution, NamedBlob, Performance, Precision
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.errors import (
    BuildFailed,
    EngineLoadFailed,
    IntegrityError,
    InvalidSamples,
    NotRunnableHere,
    ShapeOutsideProfile,
)
from regiolect.precision import Recipe, coarser_than
from regiolect.storage import LocalStore
from tests.contract.backends import BUILDS, INSTALLED, REPRODUCIBLE, RUNNABLE, RUNS, having

RequestFor = Callable[..., BuildRequest]


# Largest deviation from FP32 of outputs that reach about 1.
TOLERANCE = {Precision.FP32: 1e-5, Precision.FP16: 5e-3, Precision.INT8: 0.1}


@pytest.fixture
def build(request_for: RequestFor, store: LocalStore) -> Callable[..., EngineArtifact]:
    def make(name: str, precision: Precision = Precision.FP32, **changes: object) -> EngineArtifact:
        return backend(name).build(request_for(name, precision, **changes), store)

    return make


@pytest.fixture
def load(build: Callable[..., EngineArtifact], store: LocalStore) -> Callable[..., Engine]:
    def make(name: str, precision: Precision = Precision.FP32, **changes: object) -> Engine:
        return backend(name).load(build(name, precision, **changes), store)

    return make


def test_the_cpu_backends_run_on_every_machine() -> None:
    assert {"openvino", "onnxruntime"} <= set(RUNNABLE)


# ------------------------------------------------------------------------------------------------ building


def origin_told_by_vendor(artifact: EngineArtifact, store: LocalStore) -> dict[str, str]:
    """The origin that an engine tells, read with the vendor's own tool alone."""
    paths = {file.path: store.path_of(file.blob) for file in artifact.files}
    match artifact.request.target.backend:
        case "openvino":
            weights = openvino.Tensor(np.fromfile(paths["engine.bin"], np.uint8))
            model = openvino.Core().read_model(paths["engine.xml"].read_bytes(), weights)
            return {key: value.astype(str) for key, value in model.get_rt_info("regiolect").astype(dict).items()}
        case "onnxruntime" | "onnxruntime-cuda":
            found = onnxruntime.InferenceSession(paths["engine.onnx"]).get_modelmeta().custom_metadata_map
            return {key.removeprefix("regiolect."): value for key, value in found.items()}
        case "tensorrt" | "tensorrt-rtx":
            # Deserializing a plan needs a GPU; the network's name lies in it as plain text.
            plan = paths["engine.plan"].read_bytes()
            start = plan.index(b'{"build_key":')
            return json.loads(plan[start : plan.index(b"}", start) + 1])
        case name:
            # One that another distribution brings is asked by its own engine, as it is when it is loaded.
            return dict(backend(name).load(artifact, store).metadata())


@pytest.mark.parametrize(("name", "precision"), BUILDS)
def test_a_built_engine_tells_its_origin_to_the_vendors_own_tool(
    name: str, precision: Precision, build: Callable[..., EngineArtifact], store: LocalStore
) -> None:
    artifact = build(name, precision)
    assert origin_told_by_vendor(artifact, store) == {
        "model": "residual",
        "region": "eu",
        "target": "here",
        "precision": precision.value,
        "policy": artifact.request.policy,
        "build_key": artifact.request.build_key,
    }
    assert artifact.backend_version == backend(name).version()
    assert artifact.fingerprint["version"] == artifact.backend_version


@pytest.mark.parametrize(("name", "precision"), REPRODUCIBLE)
def test_the_same_request_gives_the_same_bytes(
    name: str, precision: Precision, build: Callable[..., EngineArtifact]
) -> None:
    assert build(name, precision) == build(name, precision)


@pytest.mark.parametrize("name", INSTALLED)
def test_an_unknown_operator_is_refused_by_name(
    name: str,
    build: Callable[..., EngineArtifact],
    write_graph: Callable[[Recipe], onnx.ModelProto],
    store: LocalStore,
) -> None:
    model = write_graph(Recipe())
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Frobnicate"
    with pytest.raises(BuildFailed, match="Frobnicate"):
        build(name, graph=store.put_bytes(model.SerializeToString()))


@pytest.mark.parametrize("name", INSTALLED)
def test_a_truncated_graph_is_refused(
    name: str,
    build: Callable[..., EngineArtifact],
    write_graph: Callable[[Recipe], onnx.ModelProto],
    store: LocalStore,
) -> None:
    with pytest.raises(BuildFailed):
        build(name, graph=store.put_bytes(write_graph(Recipe()).SerializeToString()[:500]))


@pytest.mark.parametrize("name", INSTALLED)
def test_a_graph_with_another_interface_is_refused(name: str, request_for: RequestFor, store: LocalStore) -> None:
    request = request_for(name, Precision.FP32).model_copy(update={"outputs": ("logits",)})
    with pytest.raises(BuildFailed, match="logits"):
        backend(name).build(request, store)


# ------------------------------------------------------------------------------------------------ running


@pytest.mark.parametrize("performance", Performance)
@pytest.mark.parametrize(("name", "precision"), RUNS)
def test_outputs_are_near_the_fp32_reference(
    name: str,
    precision: Precision,
    performance: Performance,
    load: Callable[..., Engine],
    samples: np.ndarray,
    reference: np.ndarray,
) -> None:
    engine = load(name, precision, performance=performance)
    assert np.abs(reference).max() > 0.5
    np.testing.assert_allclose(engine.run({"x": samples})["y"], reference, atol=TOLERANCE[precision], rtol=0)
    many = engine.run_many({"x": np.concatenate([samples] * 3)}, batch=5)["y"]
    np.testing.assert_allclose(many, np.concatenate([reference] * 3), atol=TOLERANCE[precision], rtol=0)


@pytest.mark.parametrize(("name", "precision"), RUNS)
def test_padding_to_a_bucket_does_not_change_the_answer(
    name: str, precision: Precision, load: Callable[..., Engine], samples: np.ndarray
) -> None:
    plain = load(name, precision)
    bucketed = load(name, precision, profile=BatchProfile(min=2, opt=4, max=8, buckets=(4, 8)))
    for rows in (1, 3, 4, 5, 8):
        answer = bucketed.run({"x": samples[:rows]})["y"]
        assert answer.shape == (rows, 10)
        np.testing.assert_allclose(answer, plain.run({"x": samples[:rows]})["y"], atol=1e-5)


@pytest.mark.parametrize("name", RUNNABLE)
def test_answers_are_the_callers_own(name: str, load: Callable[..., Engine], samples: np.ndarray) -> None:
    engine = load(name)
    first = engine.run({"x": samples})["y"]
    kept = first.copy()
    engine.run({"x": samples * 2})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", RUNNABLE)
def test_several_threads_may_use_one_engine(name: str, load: Callable[..., Engine], samples: np.ndarray) -> None:
    engine = load(name)
    expected = [engine.run({"x": samples[i : i + 1]})["y"] for i in range(8)]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if not np.allclose(engine.run({"x": samples[i : i + 1]})["y"], expected[i], atol=1e-5):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_batch_outside_the_profile_is_refused(name: str, load: Callable[..., Engine], samples: np.ndarray) -> None:
    engine = load(name, profile=BatchProfile(min=2, opt=4, max=8))
    for wrong in (samples[:1], np.concatenate([samples, samples])):
        with pytest.raises(ShapeOutsideProfile, match=f"2 to 8.*a batch of {len(wrong)}"):
            engine.run({"x": wrong})
    assert engine.run_many({"x": np.concatenate([samples, samples[:1]])}, batch=8)["y"].shape == (9, 10)


@pytest.mark.parametrize("name", RUNNABLE)
def test_unusable_samples_are_refused(name: str, load: Callable[..., Engine], samples: np.ndarray) -> None:
    engine = load(name)
    for poison in (np.nan, np.inf, -np.inf):
        spoiled = samples.copy()
        spoiled[5, 0, 3, 3] = poison
        with pytest.raises(InvalidSamples, match="row 5"):
            engine.run({"x": spoiled})
    for wrong in ({"x": samples.astype(np.float64)}, {"x": samples[..., :-1]}, {"z": samples}, {"x": samples[0]}):
        with pytest.raises(InvalidSamples):
            engine.run(wrong)


# ------------------------------------------------------------------------------------------------ attesting


@pytest.mark.parametrize(("name", "precision"), RUNS)
def test_what_executes_is_never_coarser_than_the_graph(
    name: str, precision: Precision, build: Callable[..., EngineArtifact], store: LocalStore
) -> None:
    attestation = attest(backend(name), build(name, precision), store)
    assert attestation.executed
    assert not [execution for execution in attestation.executed if coarser_than(execution, precision)]
    assert attestation.graph.get(precision, 0) > 0
    assert backend(name).version() in attestation.source


@pytest.mark.parametrize("name", having(Precision.INT8, *RUNNABLE))
def test_int8_graphs_execute_integer_convolutions(name: str, load: Callable[..., Engine]) -> None:
    executed = load(name, Precision.INT8).executed()
    assert executed[Execution.INT8] >= 2
    assert set(executed) <= {Execution.INT8, Execution.FP32}


@pytest.mark.parametrize(("name", "precision"), [run for run in RUNS if run[1] is not Precision.INT8])
def test_float_graphs_execute_no_integers_and_no_bf16(
    name: str, precision: Precision, load: Callable[..., Engine]
) -> None:
    assert set(load(name, precision).executed()) <= {Execution.FP32, Execution.FP16}


@pytest.mark.parametrize("name", [name for name in having(Precision.INT8, *INSTALLED) if name not in RUNNABLE])
def test_an_engine_that_cannot_run_here_is_not_attested(
    name: str, build: Callable[..., EngineArtifact], store: LocalStore
) -> None:
    artifact = build(name, Precision.INT8)
    attestation = attest(backend(name), artifact, store)
    assert attestation.executed is None
    assert attestation.summary() == "unknown"
    assert "not run" in attestation.source
    assert attestation.graph[Precision.INT8] > 0
    with pytest.raises(NotRunnableHere):
        backend(name).load(artifact, store)


# ------------------------------------------------------------------------------------------------ loading


def laid_out(artifact: EngineArtifact, store: LocalStore, folder: Path) -> Path:
    """The engine's files as a bundle has them."""
    folder.mkdir()
    for file in artifact.files:
        (folder / file.path).write_bytes(store.path_of(file.blob).read_bytes())
    return folder


@pytest.mark.parametrize("name", RUNNABLE)
def test_an_engine_loads_from_a_folder_without_a_store(
    name: str, build: Callable[..., EngineArtifact], store: LocalStore, samples: np.ndarray, tmp_path: Path
) -> None:
    artifact = build(name)
    folder = laid_out(artifact, store, tmp_path / "bundle")
    expected = backend(name).load(artifact, store).run({"x": samples})["y"]
    np.testing.assert_allclose(backend(name).load_from(artifact, folder).run({"x": samples})["y"], expected, atol=1e-6)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_changed_file_is_refused_before_it_is_read(
    name: str, build: Callable[..., EngineArtifact], store: LocalStore, tmp_path: Path
) -> None:
    artifact = build(name)
    for file in artifact.files:
        folder = laid_out(artifact, store, tmp_path / file.path)
        path = folder / file.path
        whole = path.read_bytes()
        # One flipped bit in the middle, and a cut: what a vendor's reader might accept or crash on.
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for bad in (bytes(flipped), whole[: len(whole) // 2], b""):
            path.write_bytes(bad)
            with pytest.raises(IntegrityError):
                backend(name).load_from(artifact, folder)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_path_out_of_the_bundle_is_refused(
    name: str, build: Callable[..., EngineArtifact], store: LocalStore, tmp_path: Path
) -> None:
    artifact = build(name)
    folder = laid_out(artifact, store, tmp_path / "bundle")
    for path in ("../bundle/engine", str(folder / "engine")):
        outside = (NamedBlob(path=path, blob=artifact.files[0].blob), *artifact.files[1:])
        with pytest.raises(IntegrityError, match="path"):
            backend(name).load_from(artifact.model_copy(update={"files": outside}), folder)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_missing_file_is_named(
    name: str, build: Callable[..., EngineArtifact], store: LocalStore, tmp_path: Path
) -> None:
    artifact = build(name)
    folder = laid_out(artifact, store, tmp_path / "bundle")
    (folder / artifact.files[-1].path).unlink()
    with pytest.raises(EngineLoadFailed, match=artifact.files[-1].path):
        backend(name).load_from(artifact, folder)


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_file_that_was_damaged_before_it_was_kept_is_refused(
    name: str, build: Callable[..., EngineArtifact], store: LocalStore
) -> None:
    artifact = build(name)
    for index, file in enumerate(artifact.files):
        whole = store.path_of(file.blob).read_bytes()
        files = list(artifact.files)
        files[index] = NamedBlob(path=file.path, blob=store.put_bytes(whole[: len(whole) * 2 // 3]))
        with pytest.raises(EngineLoadFailed):
            backend(name).load(artifact.model_copy(update={"files": tuple(files)}), store)


@pytest.mark.parametrize("name", RUNNABLE)
def test_another_regions_engine_is_refused_by_what_its_file_tells(
    name: str, build: Callable[..., EngineArtifact], store: LocalStore
) -> None:
    artifact = build(name)
    relabelled = artifact.request.model_copy(update={"region": "na"})
    with pytest.raises(IntegrityError, match="'na'"):
        backend(name).load(artifact.model_copy(update={"request": relabelled}), store)


def test_an_engine_of_another_backend_is_refused(build: Callable[..., EngineArtifact], store: LocalStore) -> None:
    with pytest.raises(EngineLoadFailed, match="openvino"):
        backend("onnxruntime").load(build("openvino"), store)

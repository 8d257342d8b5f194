"""What backends offer for tuning: it loads, gives the same answers in the same types, and never bears on precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from regiolect.contracts import BuildRequest, DimensionProfile, Performance, Precision
from regiolect.engines.base import AS_IT_COMES
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.engines.onnxruntime.configurations import THREADS
from regiolect.engines.onnxruntime.runtime import OnnxRuntimeEngine
from regiolect.engines.openvino.runtime import PRECISION_HINTS, OpenVinoEngine
from regiolect.errors import EngineLoadFailed, InvalidConfiguration
from regiolect.host.processors import processor_counts, processors
from regiolect.storage import LocalStore
from tests.contract.backends import ALL_RUNS, ASKED_ALL

BACKENDS = ("openvino", "onnxruntime")


@pytest.mark.parametrize("name", ASKED_ALL)
@pytest.mark.parametrize("performance", Performance)
def test_what_is_offered_begins_with_the_default_and_is_of_tunable_settings_alone(
    name: str, performance: Performance, request_for: Callable[..., BuildRequest]
) -> None:
    chosen = backend(name)
    found = [dict(each) for each in chosen.configurations(request_for(name, Precision.FP32, performance=performance))]
    assert found[0] == dict(AS_IT_COMES)
    assert (2 if chosen.tunable else 1) <= len(found) <= 16
    assert all(found.count(each) == 1 for each in found)
    assert set().union(*found) <= chosen.tunable
    assert not any("PRECISION" in setting or "QUANTIZATION" in setting for setting in chosen.tunable)


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "tensorrt", "tensorrt-rtx"])
def test_cuda_graphs_are_offered_where_shapes_are_few(name: str, request_for: Callable[..., BuildRequest]) -> None:
    """One is recorded for each shape: where any width may come they would be recorded and hardly be used."""

    def with_graphs(**width: object) -> list[str]:
        shapes = {"width": DimensionProfile.model_validate(width)} if width else {}
        request = request_for(name, Precision.FP32).model_copy(update={"shapes": shapes})
        found = backend(name).configurations(request)
        assert found[0] == AS_IT_COMES and len(found) > 1
        assert set().union(*found) <= backend(name).tunable
        return [setting for each in found for setting in each if "cuda_graph" in setting]

    assert with_graphs()
    assert with_graphs(min=8, opt=16, max=32, buckets=(8, 16, 32))
    assert not with_graphs(min=8, opt=16, max=32)


@pytest.mark.parametrize(("name", "precision"), [run for run in ALL_RUNS if run[1] is not Precision.FP16])
def test_every_configuration_computes_what_the_default_computes(
    name: str, precision: Precision, request_for: Callable[..., BuildRequest], store: LocalStore, samples: np.ndarray
) -> None:
    chosen = backend(name)
    artifact = chosen.build(request_for(name, precision), store)
    default = chosen.load(artifact, store)
    answer = default.run_many({"x": samples}, 2)["y"]
    for configuration in chosen.configurations(artifact.request):
        engine = chosen.load(artifact, store, configuration)
        assert engine.executed() == default.executed(), configuration
        assert engine.settings() == default.settings(), configuration
        assert 1 <= engine.at_once <= 2 * processors()
        np.testing.assert_allclose(engine.run_many({"x": samples}, 2)["y"], answer, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hint", PRECISION_HINTS)
def test_a_hint_on_precision_is_no_setting_that_may_be_tuned(
    hint: str, request_for: Callable[..., BuildRequest], store: LocalStore
) -> None:
    artifact = backend("openvino").build(request_for("openvino", Precision.FP32), store)
    with pytest.raises(InvalidConfiguration, match=hint):
        backend("openvino").load(artifact, store, {hint: "bf16"})


@pytest.mark.parametrize(
    ("name", "configuration"),
    [
        ("openvino", {"NUM_STREAMS": "many"}),
        ("onnxruntime", {THREADS: "many"}),
        ("onnxruntime", {"execution_mode": "ORT_SIDEWAYS"}),
    ],
)
def test_a_value_that_the_library_refuses_is_an_engine_that_does_not_load(
    name: str, configuration: dict[str, str], request_for: Callable[..., BuildRequest], store: LocalStore
) -> None:
    artifact = backend(name).build(request_for(name, Precision.FP32), store)
    with pytest.raises(EngineLoadFailed, match=r"many|ORT_SIDEWAYS"):
        backend(name).load(artifact, store, configuration)


def test_onnx_runtime_runs_side_by_side_what_leaves_cores_free(
    request_for: Callable[..., BuildRequest], store: LocalStore
) -> None:
    chosen = backend("onnxruntime")
    artifact = chosen.build(request_for("onnxruntime", Precision.FP32), store)
    assert chosen.load(artifact, store).at_once == 1
    assert chosen.load(artifact, store, {THREADS: "1"}).at_once == processors()
    assert chosen.load(artifact, store, {THREADS: str(processors())}).at_once == 1
    assert processor_counts()[-1] == processors()


def _threads(engine: Engine) -> int:
    """Threads that an engine says it takes."""
    if isinstance(engine, OnnxRuntimeEngine):
        options = engine._session.get_session_options()
        return max(options.intra_op_num_threads, options.inter_op_num_threads)
    assert isinstance(engine, OpenVinoEngine)
    return int(engine._compiled.get_property("INFERENCE_NUM_THREADS"))


@pytest.mark.parametrize("bound", ["affinity", "quota"])
@pytest.mark.parametrize("performance", Performance)
@pytest.mark.parametrize("name", BACKENDS)
def test_an_engine_takes_no_more_threads_than_its_process_has_processors(
    name: str,
    performance: Performance,
    bound: str,
    request_for: Callable[..., BuildRequest],
    store: LocalStore,
    one_processor: Callable[[str], None],
) -> None:
    chosen = backend(name)
    artifact = chosen.build(request_for(name, Precision.FP32, performance=performance), store)
    one_processor(bound)
    engine = chosen.load(artifact, store)
    assert (_threads(engine), engine.at_once) == (1, 1)
    assert chosen.device()["cores"] == "1"
    assert all(int(each.get(THREADS, "1")) == 1 for each in chosen.configurations(artifact.request))

"""What a build refuses, tells and survives, with TensorRT-RTX itself."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
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
from regiolect.engines.tensorrt.library import Messages, Progress, TensorRtFailed
from regiolect.errors import (
    BackendUnavailable,
    BuildFailed,
    EngineLoadFailed,
    IntegrityError,
    InvalidSetting,
    NotRunnableHere,
)
from regiolect.integrity import digest_bytes
from regiolect.storage import LocalStore
from tests.rtx import tensorrt_rtx

rtx = tensorrt_rtx()

Requests = Callable[..., BuildRequest]


def net(batch: str | int = "batch", width: str | int = "width", last: str = "Relu", blocks: int = 1) -> bytes:
    """Convolutions of 3x3 without padding, so that no side may be shorter than they reach."""
    rng = np.random.default_rng(0)
    nodes, constants, value = [], {}, "x"
    for place in range(blocks):
        name = f"w{place}"
        shape = (4, 3 if place == 0 else 4, 3, 3)
        constants[name] = rng.normal(size=shape).astype(np.float32)
        nodes.append(helper.make_node("Conv", [value, name], [f"c{place}"], name=f"conv{place}"))
        value = f"c{place}"
    nodes.append(helper.make_node(last, [value], ["y"], name="last"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 16, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def request_of(store: LocalStore) -> Requests:
    def make(
        graph: bytes, width: DimensionProfile | None = None, name: str = "tensorrt-rtx", **options: Any
    ) -> BuildRequest:
        return BuildRequest(
            model="net",
            region="jp",
            target=Target(name="gpu-rtx", backend=name, options={"compute_capabilities": ("SM89",), **options}),
            precision=Precision.FP32,
            graph=store.put_bytes(graph),
            inputs=(TensorSpec(name="x", shape=("batch", 3, 16, "width")),),
            outputs=("y",),
            profile=BatchProfile(min=1, opt=2, max=4),
            shapes={"width": width or DimensionProfile(min=8, opt=16, max=32)},
            performance=Performance.LATENCY,
            policy=digest_bytes(b"policy"),
            build_key=digest_bytes(b"key"),
        )

    return make


def refused(request: BuildRequest, store: LocalStore, kind: type[Exception] = BuildFailed) -> Any:
    """The error of a build that must leave nothing behind."""
    before = sorted(store.root.rglob("*"))
    with pytest.raises(kind) as error:
        backend(request.target.backend).build(request, store)
    assert sorted(store.root.rglob("*")) == before
    return error.value


def test_an_operator_that_tensorrt_does_not_know_is_named_with_its_node(
    request_of: Requests, store: LocalStore
) -> None:
    error = refused(request_of(net(last="Det")), store)
    assert "node 'last' (Det)" in error.found
    assert error.remedy.startswith("replace Det in the model")
    assert "TensorRT-RTX" in error.expected


def test_a_profile_that_leaves_the_models_range_is_refused(request_of: Requests, store: LocalStore) -> None:
    # Four convolutions of 3x3 need nine columns.
    error = refused(request_of(net(blocks=4), DimensionProfile(min=2, opt=16, max=32)), store)
    assert "min is batch 1, width 2" in error.expected
    assert "(Conv)" in error.found
    assert error.remedy == "state another `min` of shapes.width in the policy of 'jp'"


def test_a_profile_over_a_dimension_that_the_graph_fixes_is_refused_by_name(
    request_of: Requests, store: LocalStore
) -> None:
    error = refused(request_of(net(batch=1)), store)
    assert "'batch' of input 'x' is always 1" in error.expected
    assert error.found == "1 to 4 in the policy of 'jp'"
    error = refused(request_of(net(width=24)), store)
    assert "'width' of input 'x' is always 24" in error.expected


def test_options_that_a_policy_could_not_have_held_are_refused(request_of: Requests, store: LocalStore) -> None:
    error = refused(request_of(net(), workspace_mib=0), store, InvalidSetting)
    assert "options.workspace_mib" in error.found


def test_too_small_a_workspace_is_named_with_its_limit(request_of: Requests, store: LocalStore) -> None:
    wide = DimensionProfile(min=16, opt=16, max=32)
    error = refused(request_of(net(blocks=6), wide, workspace_mib=1), store)
    assert "workspace" in error.found
    assert error.remedy == "raise or remove `options.workspace_mib` of target 'gpu-rtx', which is 1"
    enough = request_of(net(blocks=6), wide, workspace_mib=256, max_aux_streams=0)
    assert backend("tensorrt-rtx").build(enough, store).files


def test_gpus_that_a_precision_has_no_kernels_for_are_refused_by_name(request_of: Requests, store: LocalStore) -> None:
    turing = request_of(net(), compute_capabilities=("SM75", "SM89"))
    error = refused(turing, store, InvalidSetting)
    assert "lacks FP32 kernels for SM75, and has them all for SM80, SM86, SM89, SM120, SM121" in error.found
    assert error.remedy == "mend it in the policy of 'jp'"


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        (("SM75", "SM89"), {"compute_capabilities": ("SM89",)}),
        (("SM75",), {}),
        (("SM86",), {"compute_capabilities": ("SM86",)}),
    ],
)
def test_the_fp32_baseline_is_for_those_gpus_that_have_fp32_kernels(
    stated: tuple[str, ...], kept: dict[str, Any], request_of: Requests, store: LocalStore
) -> None:
    asked = request_of(net(), compute_capabilities=stated, workspace_mib=256)
    rtx = backend("tensorrt-rtx")
    baseline = rtx.baseline_of(asked.target)
    assert baseline.options == {"workspace_mib": 256, **kept}
    assert rtx.build(asked.model_copy(update={"target": baseline}), store).files


def test_an_error_that_is_kept_keeps_nothing_of_tensorrt_alive(request_of: Requests, store: LocalStore) -> None:
    """Or the garbage collector would take it apart while another build speaks to its logger, and both would hang."""
    errors = [refused(request_of(net(last="Det")), store), refused(request_of(net(blocks=6), workspace_mib=1), store)]
    assert all(error.__traceback__ is not None for error in errors)
    alive = (rtx.ILogger, rtx.IProgressMonitor)
    assert not [each for each in gc.get_objects() if isinstance(each, alive)]


def test_what_tensorrt_raises_comes_with_what_its_logger_heard() -> None:
    messages = Messages()

    def fails() -> None:
        with messages.heard():
            raise TypeError("factory function returned nullptr")

    with pytest.raises(TypeError, match="nullptr"):
        fails()
    messages.take(1, "CUDA initialization failure with error: 35")
    messages.take(3, "this is only information")
    with pytest.raises(TensorRtFailed, match=r"nullptr: CUDA initialization failure with error: 35$"):
        fails()


def test_plain_tensorrt_does_not_build_where_it_is_not_installed(request_of: Requests, store: LocalStore) -> None:
    try:
        backend("tensorrt").version()
    except BackendUnavailable:
        error = refused(request_of(net(), name="tensorrt"), store, BackendUnavailable)
        assert error.remedy == "pip install 'regiolect[tensorrt]' --extra-index-url https://pypi.nvidia.com"
    else:
        pytest.skip("it is installed")


# ------------------------------------------------------------------------------------------------ loading


@pytest.fixture
def artifact(request_of: Requests, store: LocalStore) -> EngineArtifact:
    return backend("tensorrt-rtx").build(request_of(net()), store)


def test_a_truncated_plan_is_refused_before_anything_is_deserialized(
    artifact: EngineArtifact, store: LocalStore, tmp_path: Path
) -> None:
    plan = store.path_of(artifact.files[0].blob).read_bytes()
    (tmp_path / "engine.plan").write_bytes(plan[:-100])
    with pytest.raises(IntegrityError, match="ended early"):
        backend("tensorrt-rtx").load_from(artifact, tmp_path)


def test_neither_flavour_loads_the_others_plans(artifact: EngineArtifact, store: LocalStore) -> None:
    with pytest.raises(EngineLoadFailed) as refused:
        backend("tensorrt").load(artifact, store)
    assert "tensorrt-rtx" in refused.value.found
    plain = artifact.model_copy(update={"fingerprint": {**artifact.fingerprint, "flavour": "tensorrt"}})
    with pytest.raises(NotRunnableHere) as foreign:
        backend("tensorrt-rtx").load(plain, store)
    assert foreign.value.expected.endswith("bound to: flavour tensorrt")
    assert foreign.value.found == "rtx"


def test_a_plan_says_which_flavour_and_version_built_it(artifact: EngineArtifact) -> None:
    told = artifact.fingerprint
    assert (told["backend"], told["flavour"], told["version"]) == ("tensorrt-rtx", "rtx", artifact.backend_version)
    assert "gpu" not in told


# ------------------------------------------------------------------------------------------------ progress


def test_a_long_build_tells_how_far_it_is_and_a_short_one_says_nothing() -> None:
    now, told = [0.0], list[str]()
    progress = Progress("jp gpu: building", told.append, seconds=10.0, clock=lambda: now[0])
    progress.started("Timing", 40)
    assert progress.stepped("Timing", 0)
    now[0] = 10.0
    assert progress.stepped("Timing", 7)
    now[0] = 15.0
    assert progress.stepped("Timing", 8)
    assert told == ["jp gpu: building: Timing, 8 of 40"]


def test_what_a_build_raises_is_raised_to_who_waits_for_it() -> None:
    def broken() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        Progress("jp gpu: building", print).run(broken)
    assert Progress("jp gpu: building", print).run(lambda: 7) == 7


class _Cancelled(BaseException):
    """As an orchestrator raises it in the thread of a task that is cancelled."""


def test_a_cancelled_build_stops_and_leaves_nothing(
    request_of: Requests, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepping, go_on, answers = threading.Event(), threading.Event(), list[bool]()
    step = Progress.stepped

    def waiting(self: Progress, phase: str, number: int) -> bool:
        stepping.set()
        go_on.wait(20)
        answers.append(step(self, phase, number))
        return answers[-1]

    monkeypatch.setattr(Progress, "stepped", waiting)
    request, raised = request_of(net(blocks=3)), list[BaseException]()
    before = sorted(store.root.rglob("*"))

    def work() -> None:
        try:
            backend("tensorrt-rtx").build(request, store)
        except (_Cancelled, BuildFailed) as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert stepping.wait(30), "TensorRT-RTX asked for no progress"
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Cancelled))
    # The waiting thread is awake five times a second.
    thread.join(2)
    go_on.set()
    thread.join(60)
    assert not thread.is_alive()
    assert [type(error) for error in raised] == [_Cancelled]
    assert answers[0] is False
    assert sorted(store.root.rglob("*")) == before

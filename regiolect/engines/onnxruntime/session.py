"""Opening an ONNX Runtime session on one execution provider, with nothing about precision left to a default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from regiolect.contracts import Configuration
from regiolect.engines.onnxruntime.configurations import ATTRIBUTES
from regiolect.host.arithmetic import arithmetic_here, sums_in_int32
from regiolect.host.processors import physical_cores

OPTIMIZED = "optimized.onnx"
NOTHING_SET: Configuration = {}
ERRORS: tuple[type[Exception], ...] = (
    state.EPFail,
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
    RuntimeError,
)


@dataclass(frozen=True)
class Provider:
    """One of ONNX Runtime's execution providers.

    Attributes:
        name: as ONNX Runtime calls it.
        entries: the session's configuration.
        options: the provider's own.
    """

    name: str
    entries: Mapping[str, str]
    options: Mapping[str, str]


# Where 8 x 8 bit products saturate (x86 without VNNI), ONNX Runtime has kernels for unsigned weights that do not: it
# rewrites signed ones that could. It would do so on any x86, where they only take more than twice as long.
_UNSIGNED = "session.x64quantprecision"
EXACT = {_UNSIGNED: "0" if sums_in_int32(arithmetic_here()) else "1"}
# Settings by which ONNX Runtime computes FP32 in another type, or INT8 with loss, with their values that forbid it.
# None is left to its default. (The CPU provider has no TF32; on ARM it has a BF16 matrix product.)
CPU = Provider("CPUExecutionProvider", entries={"mlas.enable_gemm_fastmath_arm64_bfloat16": "0", **EXACT}, options={})

# ONNX Runtime 1.31 dies by SIGSEGV in this fusion where a Transpose that moves the batch reaches a MatMul through a
# Cast, also one that it puts around FP16 itself. Without it attention is as fast; a product of few columns with a
# transposed factor is slower.
LEFT_OUT = {"optimization.disable_specified_optimizers": "MatmulTransposeFusion"}


def open_session(
    model: bytes, provider: Provider = CPU, configuration: Configuration = NOTHING_SET, tell_into: Path | None = None
) -> onnxruntime.InferenceSession:
    """A session on a provider, silent and without telemetry.

    Args:
        provider: its entries and options go before those of `configuration`.
        configuration: attributes of SessionOptions, entries of the session's configuration, which have a dot in their
            name, and options of the provider.
        tell_into: a folder; the session writes the graph that it runs there as `optimized.onnx`, and profiles its runs.
    """
    onnxruntime.disable_telemetry_events()
    options = session_options()
    # Idle threads that spin slow down whatever else the process runs, another region's engine for one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    own = {}
    for name, value in {**configuration, **provider.entries}.items():
        if name in EXACT:
            # `session_options` has set it, and a second time would be told on stderr.
            continue
        if name in ATTRIBUTES:
            setattr(options, name, _attribute(name, value))
        elif "." in name:
            options.add_session_config_entry(name, value)
        else:
            own[name] = value
    if tell_into is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(tell_into / "profile")
        options.optimized_model_filepath = str(tell_into / OPTIMIZED)
    return onnxruntime.InferenceSession(model, options, providers=[(provider.name, {**own, **provider.options})])


def open_graph(model: bytes | Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session on the processor, of a graph that is no engine: the model as it was exported, or one that observes it.

    It is put in a form that ONNX Runtime opens, and where 8 x 8 bits saturate so that it sums them exactly
    (`regiolect.graphs.exact`), as engines are.

    Args:
        model: an ONNX file's bytes, or its path, beside which its external data lie.
        options: made by `session_options`.

    Raises:
        UnsupportedOperator, InvalidOnnx: there, as of `regiolect.graphs.exact.summed_exactly`.
        One of `ERRORS`: ONNX Runtime cannot read or run it.
    """
    model = _rewritten(model, EXACT[_UNSIGNED] == "1")
    given = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(given, options, providers=[CPU.name])


def _rewritten(model: bytes | Path, exactly: bool) -> bytes | Path:
    # Whoever only runs engines does not have onnx.
    from google.protobuf.message import DecodeError
    from onnx import ModelProto, load_model
    from onnx.checker import ValidationError

    from regiolect.graphs.exact import openable, summed_exactly

    try:
        read = load_model(model) if isinstance(model, Path) else ModelProto.FromString(model)
    except (DecodeError, OSError, ValidationError):
        # ONNX Runtime says what is wrong with it.
        return model
    own = summed_exactly(read) if exactly else openable(read)
    return model if own is read else own.SerializeToString()


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """Options of a session that says nothing, keeps to the processors of this process, and sums INT8 without loss.

    Every session is opened with these. They leave out an optimization that crashes.

    Left to itself ONNX Runtime binds a thread to each core of the machine, whether the process may use it or not.

    Args:
        threads: that one run takes; by default one for each core, as ONNX Runtime would.
    """
    options = onnxruntime.SessionOptions()
    # What fails is raised as well.
    options.log_severity_level = 4
    options.intra_op_num_threads = physical_cores() if threads is None else threads
    # Used by configurations alone that run branches of a graph side by side.
    options.inter_op_num_threads = physical_cores()
    for name, value in {**EXACT, **LEFT_OUT}.items():
        options.add_session_config_entry(name, value)
    return options


def _attribute(name: str, value: str) -> object:
    """An attribute's value from its text; RuntimeError, as of ONNX Runtime itself, if there is none such."""
    made = onnxruntime.ExecutionMode.__members__.get(value) if name == "execution_mode" else _whole(value)
    if made is None:
        raise RuntimeError(f"SessionOptions.{name} cannot be {value!r}")
    return made


def _whole(value: str) -> int | None:
    return int(value) if value.isdigit() else None

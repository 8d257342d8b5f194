"""Load and run an ONNX Runtime engine on the processor."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from regiolect.contracts import Configuration, EngineArtifact, LayerReport
from regiolect.engines.engine import Arrays, Engine, excerpt
from regiolect.engines.inputs import padded_size
from regiolect.engines.onnxruntime.configurations import ATTRIBUTES, side_by_side
from regiolect.engines.onnxruntime.layers import layers_of
from regiolect.errors import AttestationFailed

METADATA_PREFIX = "regiolect."
OPTIMIZED = "optimized.onnx"
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

# Settings by which ONNX Runtime computes FP32 in another type, with their values that forbid it. None is left to its
# default. (The CPU provider has no TF32; on ARM it has a BF16 matrix product.)
_WIDE = {"mlas.enable_gemm_fastmath_arm64_bfloat16": "0"}
# Size given in the run that is profiled to a symbolic dimension without a profile, as older requests have them.
_PROBE_SIZE = 64


def open_session(
    model: bytes, configuration: Configuration, tell_into: Path | None = None
) -> onnxruntime.InferenceSession:
    """A session on the CPU provider, silent and without telemetry.

    Args:
        configuration: attributes of SessionOptions and entries of the session's configuration, by name.
        tell_into: a folder; the session writes the graph that it runs there as `optimized.onnx`, and profiles its runs.
    """
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Idle threads that spin slow down whatever else the process runs, another region's engine for one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for name, value in {**configuration, **_WIDE}.items():
        if name in ATTRIBUTES:
            setattr(options, name, _attribute(name, value))
        else:
            options.add_session_config_entry(name, value)
    if tell_into is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(tell_into / "profile")
        options.optimized_model_filepath = str(tell_into / OPTIMIZED)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _attribute(name: str, value: str) -> object:
    """An attribute's value from its text; RuntimeError, as of ONNX Runtime itself, if there is none such."""
    made = onnxruntime.ExecutionMode.__members__.get(value) if name == "execution_mode" else _whole(value)
    if made is None:
        raise RuntimeError(f"SessionOptions.{name} cannot be {value!r}")
    return made


def _whole(value: str) -> int | None:
    return int(value) if value.isdigit() else None


def load(files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> OnnxRuntimeEngine:
    """Optimize the graph in `files` for this processor.

    Args:
        configuration: in place of ONNX Runtime's own choices.

    Raises:
        One of `ERRORS`: ONNX Runtime cannot read or run it.
    """
    return OnnxRuntimeEngine(artifact, files["engine.onnx"], configuration)


class OnnxRuntimeEngine(Engine):
    """A session. It has one mode: the latency and the throughput profile are the same to it. Several runs are computed
    side by side only where the configuration gives each of them some of the cores."""

    strength = "graph"

    def __init__(self, artifact: EngineArtifact, model: bytes, configuration: Configuration) -> None:
        super().__init__(artifact, at_once=side_by_side(configuration))
        self._model = model
        self._configuration = configuration
        self._session = open_session(model, configuration)
        self._threads = ThreadPoolExecutor(self.at_once) if self.at_once > 1 else None

    def layers(self) -> tuple[LayerReport, ...]:
        zeros = self._zeros()
        with tempfile.TemporaryDirectory(prefix="regiolect-profile-") as folder:
            session = open_session(self._model, self._configuration, tell_into=Path(folder))
            try:
                session.run(None, zeros)
            except self._vendor_errors() as error:
                raise AttestationFailed(
                    expected=f"a profiled run on zeros of { ({name: array.shape for name, array in zeros.items()}) }",
                    found=excerpt(error),
                    remedy="state an `opt` that the model takes under `shapes` in the region's policy",
                ) from error
            return layers_of(Path(folder) / OPTIMIZED, Path(session.end_profiling()))

    def settings(self) -> Mapping[str, str]:
        options = self._session.get_session_options()
        providers = {
            f"{provider}.{name}": str(value)
            for provider, given in self._session.get_provider_options().items()
            for name, value in given.items()
        }
        return {
            "providers": ", ".join(self._session.get_providers()),
            **providers,
            **{name: options.get_session_config_entry(name) for name in _WIDE},
        }

    def executed_source(self) -> str:
        return (
            f"ONNX Runtime {onnxruntime.__version__} optimised graph and profile of one run, on "
            f"{', '.join(self._session.get_providers())}: operator and element types of every kernel; how a kernel "
            "computes inside is not told"
        )

    def metadata(self) -> Mapping[str, str]:
        found = self._session.get_modelmeta().custom_metadata_map
        return {
            key.removeprefix(METADATA_PREFIX): value for key, value in found.items() if key.startswith(METADATA_PREFIX)
        }

    def _run(self, pieces: Sequence[Arrays]) -> Sequence[Arrays]:
        if self._threads is None or len(pieces) == 1:
            return [self._run_one(piece) for piece in pieces]
        return list(self._threads.map(self._run_one, pieces))

    def _run_one(self, piece: Arrays) -> Arrays:
        names = list(self.artifact.request.outputs)
        return dict(zip(names, self._session.run(names, dict(piece)), strict=True))

    def _zeros(self) -> dict[str, NDArray[Any]]:
        request = self.artifact.request
        rows = padded_size(1, request.profile)
        typical = {name: padded_size(profile.opt, profile) for name, profile in request.shapes.items()}
        return {
            tensor.name: np.zeros(
                [
                    rows,
                    *(typical.get(size, _PROBE_SIZE) if isinstance(size, str) else size for size in tensor.shape[1:]),
                ],
                tensor.dtype,
            )
            for tensor in request.inputs
        }

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        return ERRORS

"""Load and run an ONNX Runtime engine on the processor."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from regiolect.contracts import EngineArtifact, Execution
from regiolect.engines.base import Arrays, Engine, excerpt
from regiolect.engines.inputs import padded_size
from regiolect.errors import AttestationFailed

METADATA_PREFIX = "regiolect."
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

# ONNX Runtime's profile names element types; 8-bit ones are looked for first: a kernel that reads them is an integer
# kernel, whatever its scales and its output are.
_EXECUTIONS = (
    (frozenset({"int8", "uint8", "int4", "uint4"}), Execution.INT8),
    (frozenset({"bfloat16"}), Execution.BF16),
    (frozenset({"float16"}), Execution.FP16),
    (frozenset({"float"}), Execution.FP32),
)
_INDICES = frozenset({"bool", "int16", "int32", "int64", "uint16", "uint32", "uint64", "string"})
# Kernels that move, reshape or convert values. Whatever is not listed counts as compute.
_NO_COMPUTE = frozenset(
    {
        "Cast",
        "Concat",
        "ConstantOfShape",
        "DequantizeLinear",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "QuantizeLinear",
        "ReorderInput",
        "ReorderOutput",
        "Reshape",
        "Shape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
# Size given in the run that is profiled to a symbolic dimension without a profile, as older requests have them.
_PROBE_SIZE = 64


def open_session(model: bytes, profile_into: Path | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU provider, silent and without telemetry."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Idle threads that spin slow down whatever else the process runs, another region's engine for one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile_into is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_into / "profile")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load(files: Mapping[str, bytes], artifact: EngineArtifact) -> OnnxRuntimeEngine:
    """Optimize the graph in `files` for this processor.

    Raises:
        One of `ERRORS`: ONNX Runtime cannot read or run it.
    """
    return OnnxRuntimeEngine(artifact, files["engine.onnx"])


class OnnxRuntimeEngine(Engine):
    """A session. It has one mode: the latency and the throughput profile are the same to it."""

    def __init__(self, artifact: EngineArtifact, model: bytes) -> None:
        super().__init__(artifact)
        self._model = model
        self._session = open_session(model)

    def executed(self) -> Mapping[Execution, int]:
        counts: Counter[Execution] = Counter()
        for operator, types in self._profiled_kernels():
            if operator in _NO_COMPUTE or types <= _INDICES:
                continue
            found = [execution for names, execution in _EXECUTIONS if types & names]
            if not found or types - _INDICES - frozenset().union(*(names for names, _ in _EXECUTIONS)):
                raise AttestationFailed(
                    expected=f"kernel {operator} on known element types",
                    found=", ".join(sorted(types)) or "none",
                    remedy="use the ONNX Runtime version in the constraints file, or report the operator",
                )
            counts[found[0]] += 1
        return counts

    def executed_source(self) -> str:
        return (
            f"ONNX Runtime {onnxruntime.__version__} profile of one run: operator and element types of every kernel; "
            "how a kernel computes inside is not told"
        )

    def metadata(self) -> Mapping[str, str]:
        found = self._session.get_modelmeta().custom_metadata_map
        return {
            key.removeprefix(METADATA_PREFIX): value for key, value in found.items() if key.startswith(METADATA_PREFIX)
        }

    def _run(self, pieces: Sequence[Arrays]) -> Sequence[Arrays]:
        names = list(self.artifact.request.outputs)
        return [dict(zip(names, self._session.run(names, dict(piece)), strict=True)) for piece in pieces]

    def _profiled_kernels(self) -> list[tuple[str, frozenset[str]]]:
        request = self.artifact.request
        rows = padded_size(1, request.profile)
        typical = {name: padded_size(profile.opt, profile) for name, profile in request.shapes.items()}
        zeros = {
            tensor.name: np.zeros(
                [
                    rows,
                    *(typical.get(size, _PROBE_SIZE) if isinstance(size, str) else size for size in tensor.shape[1:]),
                ],
                tensor.dtype,
            )
            for tensor in request.inputs
        }
        with tempfile.TemporaryDirectory(prefix="regiolect-profile-") as folder:
            session = open_session(self._model, profile_into=Path(folder))
            try:
                session.run(None, zeros)
            except self._vendor_errors() as error:
                raise AttestationFailed(
                    expected=f"a profiled run on zeros of { ({name: array.shape for name, array in zeros.items()}) }",
                    found=excerpt(error),
                    remedy="state an `opt` that the model takes under `shapes` in the region's policy",
                ) from error
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return [
            (
                event["args"]["op_name"],
                frozenset(
                    kind
                    for side in ("input", "output")
                    for tensor in event["args"][f"{side}_type_shape"]
                    for kind in tensor
                ),
            )
            for event in events
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        ]

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        return ERRORS

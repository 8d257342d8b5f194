"""Load and run an OpenVINO engine on the processor."""

from __future__ import annotations

import functools
import queue
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino.frontend import (
    GeneralFailure,
    InitializationFailure,
    NotImplementedFailure,
    OpConversionFailure,
    OpValidationFailure,
)

from regiolect.contracts import EngineArtifact, Execution, Performance
from regiolect.engines.base import Arrays, Engine, metadata_of
from regiolect.errors import AttestationFailed

RT_INFO = "regiolect"
ERRORS: tuple[type[Exception], ...] = (
    GeneralFailure,
    InitializationFailure,
    NotImplementedFailure,
    OpConversionFailure,
    OpValidationFailure,
    RuntimeError,
)

_HINTS = {Performance.LATENCY: "LATENCY", Performance.THROUGHPUT: "THROUGHPUT"}
_EXECUTIONS = {
    "f32": Execution.FP32,
    "f16": Execution.FP16,
    "bf16": Execution.BF16,
    "i8": Execution.INT8,
    "u8": Execution.INT8,
}
# Arithmetic on shapes and indices, never on activations.
_INDICES = frozenset({"i16", "u16", "i32", "u32", "i64", "u64", "boolean"})
# Layers that hold, move or convert values. Whatever is not listed counts as compute.
_NO_COMPUTE = frozenset(
    {
        "Broadcast",
        "Concatenation",
        "Const",
        "Convert",
        "FakeQuantize",
        "Gather",
        "Input",
        "Output",
        "Pad",
        "Reorder",
        "Reshape",
        "ShapeOf",
        "Split",
        "StridedSlice",
        "Tile",
        "Transpose",
    }
)


def load(files: Mapping[str, bytes], artifact: EngineArtifact) -> OpenVinoEngine:
    """Compile the IR in `files` for this processor.

    Raises:
        One of `ERRORS`: OpenVINO cannot read or compile it.
    """
    weights = openvino.Tensor(np.frombuffer(files["engine.bin"], np.uint8))
    model = _core().read_model(model=files["engine.xml"], weights=weights)
    compiled = _core().compile_model(
        model,
        "CPU",
        {
            # Never left to the default, which is BF16 or FP16 on some processors. An FP16 policy is a floor; the f16
            # hint becomes BF16 where there is no fast FP16, so FP16 graphs run wider, in FP32. INT8 is not affected.
            "INFERENCE_PRECISION_HINT": "f32",
            # Left alone, matrix products over compressed weights quantize their activations on the fly.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
            "PERFORMANCE_HINT": _HINTS[artifact.request.performance],
        },
    )
    keys = [key for key in metadata_of(artifact.request) if model.has_rt_info([RT_INFO, key])]
    return OpenVinoEngine(artifact, compiled, {key: model.get_rt_info([RT_INFO, key]).astype(str) for key in keys})


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()


class OpenVinoEngine(Engine):
    """A compiled model. With the throughput profile `run_many` keeps a batch in flight on every stream."""

    def __init__(self, artifact: EngineArtifact, compiled: openvino.CompiledModel, metadata: Mapping[str, str]) -> None:
        super().__init__(artifact)
        self._compiled = compiled
        self._metadata = metadata
        self._streams = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._idle: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()

    def executed(self) -> Mapping[Execution, int]:
        counts: Counter[Execution] = Counter()
        for layer in self._compiled.get_runtime_model().get_ordered_ops():
            info = layer.get_rt_info()
            kind, precision = info["layerType"].astype(str), info["runtimePrecision"].astype(str)
            if kind in _NO_COMPUTE or precision in _INDICES:
                continue
            if precision not in _EXECUTIONS:
                raise AttestationFailed(
                    expected=f"layer {layer.get_friendly_name()!r} ({kind}) in one of {', '.join(_EXECUTIONS)}",
                    found=f"runtime precision {precision!r}",
                    remedy="use the OpenVINO version in the constraints file, or report the layer",
                )
            counts[_EXECUTIONS[precision]] += 1
        return counts

    def executed_source(self) -> str:
        return (
            f"OpenVINO {openvino.__version__.split('-')[0]} runtime model, compiled with INFERENCE_PRECISION_HINT=f32"
        )

    def metadata(self) -> Mapping[str, str]:
        return self._metadata

    def _run(self, pieces: Sequence[Arrays]) -> Sequence[Arrays]:
        results: list[dict[str, NDArray[Any]]] = []
        for start in range(0, len(pieces), self._streams):
            at_once = pieces[start : start + self._streams]
            with self._requests(len(at_once)) as requests:
                for request, piece in zip(requests, at_once, strict=True):
                    request.start_async(dict(piece), share_inputs=True)
                for request in requests:
                    request.wait()
                    results.append(
                        {name: request.get_tensor(name).data.copy() for name in self.artifact.request.outputs}
                    )
        return results

    @contextmanager
    def _requests(self, count: int) -> Iterator[list[openvino.InferRequest]]:
        # An infer request is not safe to share between threads: each caller takes idle ones and gives them back.
        taken: list[openvino.InferRequest] = []
        try:
            while len(taken) < count:
                try:
                    taken.append(self._idle.get_nowait())
                except queue.Empty:
                    taken.append(self._compiled.create_infer_request())
            yield taken
        finally:
            for request in taken:
                self._idle.put(request)

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        return ERRORS

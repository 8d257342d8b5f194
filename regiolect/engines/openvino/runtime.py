"""Load and run an OpenVINO engine on the processor."""

from __future__ import annotations

import functools
import queue
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

from regiolect.contracts import Configuration, EngineArtifact, LayerReport
from regiolect.engines.engine import Arrays, Engine
from regiolect.engines.openvino.configurations import HINTS, THREADS
from regiolect.engines.openvino.layers import layers_of
from regiolect.engines.origin import metadata_of
from regiolect.host.processors import processors

RT_INFO = "regiolect"
ERRORS: tuple[type[Exception], ...] = (
    GeneralFailure,
    InitializationFailure,
    NotImplementedFailure,
    OpConversionFailure,
    OpValidationFailure,
    RuntimeError,
)

# None of them is ever left to its default.
PRECISION_HINTS = {
    # The default is BF16 or FP16 on some processors. An FP16 policy is a floor; the f16 hint becomes BF16 where there
    # is no fast FP16, so FP16 graphs run wider, in FP32. INT8 is not affected.
    "INFERENCE_PRECISION_HINT": "f32",
    # Left alone, matrix products over compressed weights quantize their activations on the fly.
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}


def load(files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> OpenVinoEngine:
    """Compile the IR in `files` for this processor.

    Args:
        configuration: in place of what the request's `performance` asks for.

    Raises:
        One of `ERRORS`: OpenVINO cannot read or compile it.
    """
    weights = openvino.Tensor(np.frombuffer(files["engine.bin"], np.uint8))
    model = _core().read_model(model=files["engine.xml"], weights=weights)
    # OpenVINO keeps to a process's affinity by itself, but not to its cgroup's quota. The number is the most that it
    # takes; which processors they are goes on being its choice.
    own = {"PERFORMANCE_HINT": HINTS[artifact.request.performance], THREADS: str(processors())}
    return OpenVinoEngine(
        artifact, model, _core().compile_model(model, "CPU", {**own, **configuration, **PRECISION_HINTS})
    )


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()


class OpenVinoEngine(Engine):
    """A compiled model. With the throughput profile `run_many` keeps a batch in flight on every stream."""

    strength = "kernels"

    def __init__(self, artifact: EngineArtifact, model: openvino.Model, compiled: openvino.CompiledModel) -> None:
        super().__init__(artifact, at_once=int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))
        self._compiled = compiled
        keys = [key for key in metadata_of(artifact.request) if model.has_rt_info([RT_INFO, key])]
        self._metadata = {key: model.get_rt_info([RT_INFO, key]).astype(str) for key in keys}
        self._operators = {operator.get_friendly_name(): operator.get_type_name() for operator in model.get_ops()}
        self._idle: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()

    def layers(self) -> tuple[LayerReport, ...]:
        return layers_of(self._compiled, self._operators)

    def settings(self) -> Mapping[str, str]:
        return {
            "INFERENCE_PRECISION_HINT": self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string(),
            "EXECUTION_MODE_HINT": self._compiled.get_property("EXECUTION_MODE_HINT").name,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(self._compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")),
        }

    def executed_source(self) -> str:
        hint = self.settings()["INFERENCE_PRECISION_HINT"]
        version = openvino.__version__.split("-")[0]
        return f"OpenVINO {version} runtime model, compiled with INFERENCE_PRECISION_HINT={hint}"

    def metadata(self) -> Mapping[str, str]:
        return self._metadata

    def _run(self, pieces: Sequence[Arrays]) -> Sequence[Arrays]:
        results: list[dict[str, NDArray[Any]]] = []
        for start in range(0, len(pieces), self.at_once):
            at_once = pieces[start : start + self.at_once]
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

"""Load and run an ONNX Runtime engine on a GPU, through buffers that stay on it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from regiolect.contracts import Configuration, EngineArtifact, Execution, LayerReport
from regiolect.engines.engine import Arrays
from regiolect.engines.onnxruntime.configurations import CUDA_GRAPH
from regiolect.engines.onnxruntime.runtime import OnnxRuntimeEngine
from regiolect.engines.onnxruntime.session import Provider
from regiolect.errors import AttestationFailed, EngineLoadFailed
from regiolect.host.gpu import gpu, lost_if_gone

_NAME = "CUDAExecutionProvider"
_DEVICE = "cuda"
# Shapes whose buffers are kept on the GPU at once.
_KEPT = 16
_FATAL = 4
# ONNX Runtime's number for a run that is not captured.
_NO_GRAPH = "-1"

_Shapes = tuple[tuple[int, ...], ...]


def load(files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> CudaEngine:
    """Optimize the graph in `files` for the GPU that CUDA shows first.

    Args:
        configuration: options of the provider, in place of its own choices.

    Raises:
        EngineLoadFailed: the provider does not load here; ONNX Runtime alone would go on with the processor.
        One of `session.ERRORS`: ONNX Runtime cannot read or run it.
    """
    # CUDA and cuDNN as pip installs them; what the system has is found without.
    onnxruntime.preload_dlls()
    # Each kernel of cuDNN that is passed over would be told as an error; what fails is raised.
    onnxruntime.set_default_logger_severity(_FATAL)
    # Convolutions and matrix products of FP32 tensors would take TF32 by default.
    provider = Provider(_NAME, entries={}, options={"use_tf32": str(int(artifact.request.tf32))})
    return CudaEngine(artifact, files["engine.onnx"], provider, configuration)


class CudaEngine(OnnxRuntimeEngine):
    """A session on one GPU. Batches of several threads take turns: they share a stream and its buffers.

    With `enable_cuda_graph` each shape's kernels are captured when it is first seen, and replayed as a whole after.
    """

    strength = "graph"

    def __init__(
        self, artifact: EngineArtifact, model: bytes, provider: Provider, configuration: Configuration
    ) -> None:
        super().__init__(artifact, model, provider, configuration)
        if self._session.get_providers()[0] != _NAME:
            raise EngineLoadFailed(
                expected=f"ONNX Runtime {onnxruntime.__version__} with its CUDA provider on {gpu()}",
                found=f"{', '.join(self._session.get_providers())} alone: CUDA 13 or cuDNN 9 does not load",
                remedy="pip install 'regiolect[onnxruntime-cuda]', which brings both, and a driver for CUDA 13",
            )
        self._captures = configuration.get(CUDA_GRAPH) == "1"
        self._turn = threading.Lock()
        self._bound: OrderedDict[_Shapes, BoundBatch] = OrderedDict()

    def layers(self) -> tuple[LayerReport, ...]:
        """As the processor's, with the provider of each kernel told.

        Where TF32 is allowed every FP32 kernel counts as TF32: which of them take it is not told.
        """
        with lost_if_gone(self.artifact.request.target.name, (AttestationFailed, *self._vendor_errors())):
            reports = super().layers()
        if not self.artifact.request.tf32:
            return reports
        return tuple(
            layer.model_copy(update={"precision": Execution.TF32}) if layer.precision is Execution.FP32 else layer
            for layer in reports
        )

    def bound(self, inputs: Arrays) -> BoundBatch:
        """Buffers on the GPU for batches of these shapes; the same ones for the same shapes, of the last few.

        Whoever uses them calls from one thread at a time.
        """
        names = [tensor.name for tensor in self.artifact.request.inputs]
        shapes = tuple(inputs[name].shape for name in names)
        batch = self._bound.get(shapes)
        if batch is None:
            full = len(self._bound) >= _KEPT
            if full and not self._captures:
                self._bound.popitem(last=False)
            # A capture holds its buffers for good: the first shapes are captured, and any other runs as it comes.
            graph = (_NO_GRAPH if full else str(len(self._bound) + 1)) if self._captures else None
            given = {name: inputs[name] for name in names}
            batch = BoundBatch(self._session, given, self.artifact.request.outputs, graph)
            if graph == _NO_GRAPH:
                return batch
            self._bound[shapes] = batch
        self._bound.move_to_end(shapes)
        return batch

    def _telling(self) -> Configuration:
        # A graph that is replayed tells of no kernel.
        return {name: value for name, value in self._configuration.items() if name != CUDA_GRAPH}

    def _run(self, pieces: Sequence[Arrays]) -> Sequence[Arrays]:
        results = []
        with self._turn:
            for piece in pieces:
                with lost_if_gone(self.artifact.request.target.name, self._vendor_errors()):
                    batch = self.bound(piece)
                    batch.copy_in(piece)
                    batch.compute()
                    results.append(batch.copy_out())
        return results


class BoundBatch:
    """Inputs and outputs of one shape in the GPU's memory.

    Args:
        inputs: arrays of the shapes and dtypes to come.
        outputs: names, in the order of `copy_out`.
        graph: number of the CUDA graph that this shape is captured in; "-1" for a shape without one, None for an engine
            without any.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, inputs: Arrays, outputs: Sequence[str], graph: str | None
    ) -> None:
        self._session = session
        self._outputs = tuple(outputs)
        self._binding = session.io_binding()
        self._inputs = {
            name: onnxruntime.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, _DEVICE, 0)
            for name, array in inputs.items()
        }
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name in outputs:
            self._binding.bind_output(name, _DEVICE)
        self._options = onnxruntime.RunOptions()
        if graph is not None:
            self._options.add_run_config_entry("gpu_graph_id", graph)
        if graph not in (None, _NO_GRAPH):
            self._fix_outputs(inputs)

    def _fix_outputs(self, inputs: Arrays) -> None:
        """A captured graph writes where it wrote when it was captured: the outputs get buffers of their own."""
        without = onnxruntime.RunOptions()
        without.add_run_config_entry("gpu_graph_id", _NO_GRAPH)
        self.copy_in({name: np.zeros_like(array) for name, array in inputs.items()})
        self._session.run_with_iobinding(self._binding, without)
        # Held here as well: a binding does not keep what it is bound to.
        self._fixed = self._binding.get_outputs()
        for name, value in zip(self._outputs, self._fixed, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def copy_in(self, inputs: Arrays) -> None:
        """The batch to be computed, from this machine's memory to the GPU's."""
        for name, value in self._inputs.items():
            value.update_inplace(np.ascontiguousarray(inputs[name]))

    def compute(self) -> None:
        """Outputs from inputs, all on the GPU; returns when they are there."""
        self._session.run_with_iobinding(self._binding, self._options)

    def copy_out(self) -> dict[str, NDArray[Any]]:
        """Outputs by name, as new arrays in this machine's memory."""
        return dict(zip(self._outputs, (value.numpy() for value in self._binding.get_outputs()), strict=True))

"""Load and run a plan of either flavour."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import Configuration, EngineArtifact, LayerReport
from regiolect.engines.engine import Arrays, Engine
from regiolect.engines.tensorrt.cuda import Buffer, Graph, Stream, use_first_device
from regiolect.engines.tensorrt.layers import layers_of
from regiolect.engines.tensorrt.library import Contexts, Flavour, Library, Messages, sizes
from regiolect.engines.tensorrt.listeners import logger_of
from regiolect.errors import EngineError, EngineLoadFailed
from regiolect.gpus import lost_if_gone

if TYPE_CHECKING:
    import tensorrt as trt

CONTEXTS = "contexts"
ERRORS: tuple[type[Exception], ...] = (RuntimeError, TypeError, MemoryError)


def load(
    files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration, flavour: Flavour
) -> TensorRtEngine:
    """Deserialize the plan in `files` on the first GPU.

    Raises:
        EngineLoadFailed: TensorRT does not take the plan.
        DeviceLost: the GPU does not answer.
        One of `ERRORS`: CUDA or TensorRT failed.
    """
    use_first_device()
    messages = Messages()
    runtime = flavour.runtime(logger_of(flavour.library, messages), artifact)
    engine = runtime.deserialize_cuda_engine(files["engine.plan"])
    if engine is None:
        raise EngineLoadFailed(
            expected=f"a plan that {flavour.title} {flavour.version} deserializes on this GPU",
            found=messages.told(),
            remedy="build the engine again on its target with --force; a plan belongs to one version of its library",
        )
    return TensorRtEngine(artifact, flavour, runtime, engine, messages, configuration)


class TensorRtEngine(Engine):
    """A deserialized plan. Batches run side by side, each in an execution context with a stream of its own."""

    # The inspector tells the types of what goes into a layer and comes out, and names the kernel of most.
    strength = "graph"

    def __init__(
        self,
        artifact: EngineArtifact,
        flavour: Flavour,
        runtime: trt.Runtime,
        engine: trt.ICudaEngine,
        messages: Messages,
        configuration: Configuration,
    ) -> None:
        super().__init__(artifact, at_once=int(configuration.get(CONTEXTS, "1")))
        self._library, self._title, self._version = flavour.library, flavour.title, flavour.version
        self._messages = messages
        # The runtime must outlive its engine, and the engine its contexts.
        self._runtime, self._engine = runtime, engine
        self._contexts = flavour.contexts(engine, artifact, configuration)
        self._idle: queue.SimpleQueue[_Slot] = queue.SimpleQueue()

    def layers(self) -> tuple[LayerReport, ...]:
        inspector = self._engine.create_engine_inspector()
        told = inspector.get_engine_information(self._library.LayerInformationFormat.JSON)
        return layers_of(told, [name for name, _ in _tensors(self._library, self._engine)])

    def settings(self) -> Mapping[str, str]:
        engine = self._engine
        return {
            "profiling_verbosity": engine.profiling_verbosity.name,
            "hardware_compatibility_level": engine.hardware_compatibility_level.name,
            "refittable": str(engine.refittable),
        }

    def executed_source(self) -> str:
        return (
            f"{self._title} {self._version} engine inspector at full detail: types of every layer's tensors "
            "and the names of its kernels; how a kernel without a telling name computes inside is not told"
        )

    def metadata(self) -> Mapping[str, str]:
        try:
            told = json.loads(self._engine.name)
        except ValueError:
            return {}
        return {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}

    def _run(self, pieces: Sequence[Arrays]) -> Sequence[Arrays]:
        # A thread that never spoke to CUDA would be given a device of its own choice.
        use_first_device()
        results: list[dict[str, NDArray[Any]]] = []
        for start in range(0, len(pieces), self.at_once):
            at_once = pieces[start : start + self.at_once]
            target = self.artifact.request.target.name
            with lost_if_gone(target, (EngineError, *ERRORS)), self._slots(len(at_once)) as slots:
                for slot, piece in zip(slots, at_once, strict=True):
                    slot.start(piece)
                results += [slot.finish() for slot in slots]
        return results

    @contextmanager
    def _slots(self, count: int) -> Iterator[list[_Slot]]:
        # A context is not safe to share between threads: each caller takes idle ones and gives them back.
        taken: list[_Slot] = []
        try:
            while len(taken) < count:
                try:
                    taken.append(self._idle.get_nowait())
                except queue.Empty:
                    taken.append(_Slot(self._library, self._engine, self._contexts, self._messages))
            yield taken
        finally:
            for slot in taken:
                self._idle.put(slot)

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        return ERRORS


def _tensors(library: Library, engine: trt.ICudaEngine) -> Iterator[tuple[str, bool]]:
    """Names of an engine's inputs and outputs, and whether each is an input."""
    for place in range(engine.num_io_tensors):
        name = engine.get_tensor_name(place)
        yield name, engine.get_tensor_mode(name) == library.TensorIOMode.INPUT


class _Slot:
    """An execution context with its stream and its device memory, sized for the largest shapes of the profile."""

    def __init__(self, library: Library, engine: trt.ICudaEngine, contexts: Contexts, messages: Messages) -> None:
        self._contexts, self._messages = contexts, messages
        context = contexts.create()
        if context is None:
            raise self._failed("an execution context")
        self._context, self._stream = context, Stream()
        self._graphs: dict[tuple[tuple[int, ...], ...], Graph | None] = {}
        self._buffers: dict[str, Buffer] = {}
        self._outputs: dict[str, np.dtype[Any]] = {}
        for name, is_input in _tensors(library, engine):
            kind = np.dtype(library.nptype(engine.get_tensor_dtype(name)))
            if is_input:
                largest = sizes(engine.get_tensor_profile_shape(name, 0)[-1])
                self._set_shape(name, largest)
                self._buffers[name] = Buffer(int(np.prod(largest)) * kind.itemsize)
            else:
                self._outputs[name] = kind
        for name in self._outputs:
            self._buffers[name] = Buffer(context.get_max_output_size(name))
        for name, buffer in self._buffers.items():
            if not context.set_tensor_address(name, buffer.address):
                raise self._failed(f"an address for {name!r}")

    def start(self, piece: Arrays) -> None:
        """Put a batch's copies and kernels into the stream. The arrays must live until `finish`."""
        for name, array in piece.items():
            self._set_shape(name, array.shape)
            self._buffers[name].take(array, self._stream)
        shapes = tuple(array.shape for array in piece.values())
        graph = self._graphs.get(shapes)
        if graph is not None:
            graph.launch()
            return
        self._enqueue()
        if shapes not in self._graphs:
            self._stream.wait()
            self._contexts.warmed()
            # Recorded only after one run of the same shapes, in which TensorRT may still allocate.
            self._graphs[shapes] = self._stream.recorded(self._kernels) if self._contexts.graphs else None

    def finish(self) -> dict[str, NDArray[Any]]:
        """Wait for the batch, and take its outputs."""
        outputs = {}
        for name, kind in self._outputs.items():
            shape = sizes(self._context.get_tensor_shape(name))
            if any(size < 0 for size in shape):
                raise EngineError(
                    expected=f"an output {name!r} whose shape follows from the inputs' shapes",
                    found=f"shape {shape}: it depends on their values",
                    remedy="leave operators like NonZero out of the model, or name another backend",
                )
            outputs[name] = self._buffers[name].give(shape, kind, self._stream)
        self._stream.wait()
        return outputs

    def _set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(name, shape):
            raise self._failed(f"input {name!r} of shape {shape}")

    def _kernels(self) -> bool:
        return self._context.execute_async_v3(self._stream.handle)

    def _enqueue(self) -> None:
        if not self._kernels():
            raise self._failed("a batch to run")

    def _failed(self, what: str) -> EngineError:
        return EngineError(
            expected=what,
            found=self._messages.told(),
            remedy="free memory on the GPU or choose a smaller batch; if it stays, build the engine again with --force",
        )

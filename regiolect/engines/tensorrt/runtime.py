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
from regiolect.engines.engine import Arrays, Engine, excerpt, remedy_for
from regiolect.engines.tensorrt.cuda import Buffer, Stream, use_first_device
from regiolect.engines.tensorrt.layers import layers_of
from regiolect.engines.tensorrt.library import ERRORS, Contexts, Flavour, Library, Messages, let_go, sizes
from regiolect.engines.tensorrt.listeners import logger_of
from regiolect.engines.tensorrt.recorded import Launchable, Recorded, Shapes
from regiolect.errors import AttestationFailed, EngineError, EngineLoadFailed
from regiolect.host.gpu import lost_if_gone

if TYPE_CHECKING:
    import tensorrt as trt

CONTEXTS = "contexts"
# Shapes that a context remembers to have met, of the many that dimensions without buckets may take.
_REMEMBERED = 1000


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
    with messages.heard(), let_go():
        return _deserialized(files["engine.plan"], artifact, configuration, flavour, messages)


def _deserialized(
    plan: bytes, artifact: EngineArtifact, configuration: Configuration, flavour: Flavour, messages: Messages
) -> TensorRtEngine:
    logger = logger_of(flavour.library, messages)
    runtimes = flavour.runtimes(logger, artifact)
    engine = runtimes[-1].deserialize_cuda_engine(plan)
    if engine is None:
        message = messages.told()
        again = "build the engine again on its target with --force; a plan belongs to one version of its library"
        raise EngineLoadFailed(
            expected=f"a plan that {flavour.title} {flavour.version} deserializes on this GPU",
            found=message,
            remedy=remedy_for(message, again),
        )
    return TensorRtEngine(artifact, flavour, (logger, *runtimes), engine, messages, configuration)


class TensorRtEngine(Engine):
    """A deserialized plan. Batches run side by side, each in an execution context with a stream of its own."""

    # The inspector tells the types of what goes into a layer and comes out, and names the kernel of most.
    strength = "graph"

    def __init__(
        self,
        artifact: EngineArtifact,
        flavour: Flavour,
        outlasting: tuple[object, ...],
        engine: trt.ICudaEngine,
        messages: Messages,
        configuration: Configuration,
    ) -> None:
        super().__init__(artifact, at_once=int(configuration.get(CONTEXTS, "1")))
        self._library, self._title, self._version = flavour.library, flavour.title, flavour.version
        self._messages = messages
        # Attributes go in the order in which they came: contexts, their engine, then its runtimes and their logger.
        self._idle: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        self._contexts = flavour.contexts(engine, artifact, configuration)
        self._engine = engine
        self._outlasting = outlasting[::-1]

    def layers(self) -> tuple[LayerReport, ...]:
        with lost_if_gone(self.artifact.request.target.name, (AttestationFailed,)):
            return layers_of(self._inspected(), [name for name, _ in _tensors(self._library, self._engine)])

    def _inspected(self) -> str:
        use_first_device()
        try:
            with self._messages.heard():
                inspector = self._engine.create_engine_inspector()
                return inspector.get_engine_information(self._library.LayerInformationFormat.JSON)
        except ERRORS as error:
            raise AttestationFailed(
                expected=f"the engine inspector of {self._title} {self._version} to answer",
                found=excerpt(error),
                remedy=remedy_for(error, "build the engine again with --force and this version"),
            ) from error

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
            metadata = json.loads(self._engine.name)
        except ValueError:
            return {}
        return {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}

    def _run(self, pieces: Sequence[Arrays]) -> Sequence[Arrays]:
        # A thread that never spoke to CUDA would be given a device of its own choice.
        use_first_device()
        results: list[dict[str, NDArray[Any]]] = []
        for start in range(0, len(pieces), self.at_once):
            at_once = pieces[start : start + self.at_once]
            target = self.artifact.request.target.name
            with (
                lost_if_gone(target, (EngineError, *ERRORS)),
                self._messages.heard(),
                self._slots(len(at_once)) as slots,
            ):
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
        self._recorded = Recorded()
        self._seen: set[Shapes] = set()
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
        # In the order of the names: two batches of the same shapes may name their inputs in another one.
        shapes: Shapes = tuple(piece[name].shape for name in sorted(piece))
        changed = self._recorded.changed(shapes)
        for name, array in piece.items():
            if changed:
                self._set_shape(name, array.shape)
            self._buffers[name].take(array, self._stream)
        if not changed:
            self._recorded.again(self._record, self._enqueue)
            return
        self._enqueue()
        self._recorded.first(shapes)
        if shapes not in self._seen and len(self._seen) < _REMEMBERED:
            self._seen.add(shapes)
            self._stream.wait()
            self._contexts.warmed()

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

    def _record(self) -> Launchable | None:
        return self._stream.recorded(self._kernels) if self._contexts.graphs else None

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

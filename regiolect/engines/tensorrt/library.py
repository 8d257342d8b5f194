"""What a flavour is to the modules that both share: TensorRT's own names, typed by plain TensorRT's stubs, and a few
steps that each flavour takes its own way. Imports no vendor's library."""

from __future__ import annotations

import contextvars
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from regiolect.contracts import BuildRequest, Configuration, EngineArtifact
from regiolect.engines.engine import excerpt
from regiolect.engines.tensorrt.options import Options

if TYPE_CHECKING:
    import tensorrt as trt

_Built = TypeVar("_Built")

ERRORS: tuple[type[Exception], ...] = (RuntimeError, TypeError, MemoryError)
"""What TensorRT's and CUDA's bindings raise."""

_AWAKE_SECONDS = 0.2
# Severities as both flavours number them: INTERNAL_ERROR, ERROR.
_WORST = (0, 1)


class Library(Protocol):
    """What is used of a flavour's module besides what the flavour wraps."""

    Builder: type[trt.Builder]
    BuilderFlag: type[trt.BuilderFlag]
    Dims: type[trt.Dims]
    ILogger: type[trt.ILogger]
    IProgressMonitor: type[trt.IProgressMonitor]
    LayerInformationFormat: type[trt.LayerInformationFormat]
    MemoryPoolType: type[trt.MemoryPoolType]
    NetworkDefinitionCreationFlag: type[trt.NetworkDefinitionCreationFlag]
    OnnxParser: type[trt.OnnxParser]
    ProfilingVerbosity: type[trt.ProfilingVerbosity]
    Runtime: type[trt.Runtime]
    TensorIOMode: type[trt.TensorIOMode]

    def nptype(self, trt_type: trt.DataType) -> Any:
        """NumPy's type for one of TensorRT's."""


def sizes(dims: trt.Dims) -> tuple[int, ...]:
    """A shape as Python has it."""
    return tuple(int(dims[axis]) for axis in range(len(dims)))


class Messages:
    """Keeps what TensorRT reports as an error instead of printing it."""

    def __init__(self) -> None:
        self._errors: list[str] = []

    def take(self, severity: int, message: str) -> None:
        """One message of a logger."""
        if severity in _WORST:
            self._errors.append(message)

    def told(self) -> str:
        """All errors since the last call, on one line."""
        taken, self._errors = self._errors, []
        return excerpt(" ".join(taken))

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Add what was reported to what TensorRT raises, which alone mostly says that it failed.

        Raises:
            TensorRtFailed: one of `ERRORS` was raised, and something was reported.
        """
        try:
            yield
        except ERRORS as error:
            if not self._errors:
                raise
            raise TensorRtFailed(f"{excerpt(error, 200)}: {self.told()}") from error


@contextmanager
def let_go() -> Iterator[None]:
    """Have what is raised keep none of TensorRT's objects alive.

    An error holds the frames that it came through. Where the garbage collector finds them later while TensorRT speaks
    to its logger, the objects in them go, speak to the logger themselves, and wait for each other for ever (seen with
    TensorRT-RTX 1.7.1).
    """
    try:
        yield
    except BaseException as raised:
        error: BaseException | None = raised
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__cause__ or error.__context__
        raise


class TensorRtFailed(RuntimeError):
    """What TensorRT raised, with what its logger heard."""


class RefitRefused(RuntimeError):
    """TensorRT does not put a graph's weights into the plan that it built for them."""


class Progress:
    """Runs a build so that it tells how far it is, and stops when the thread that waits for it is interrupted.

    TensorRT asks whether to go on from frames of its own, where an exception would get lost. So the build has a thread
    to itself, and what interrupts the caller, a cancelled task or Ctrl-C, is raised in the caller.

    Args:
        what: is being built.
        tell: is given a line at most every `seconds`.
    """

    def __init__(
        self, what: str, tell: Callable[[str], None], seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._tell, self._seconds, self._clock = what, tell, seconds, clock
        self._last = clock()
        self._steps: dict[str, int] = {}
        self._stop = threading.Event()

    def run(self, build: Callable[[], _Built]) -> _Built:
        """What `build` returns or raises. Whatever interrupts the wait is raised once the build has stopped."""
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1, thread_name_prefix="tensorrt-build") as thread:
            # Made before anything can be interrupted: nobody would wait for a thread whose start was.
            thread.submit(bool).result()
            try:
                building = thread.submit(context.run, build)
                # Awake now and then: an exception that another thread raises here is only seen between two waits.
                while not wait([building], timeout=_AWAKE_SECONDS).done:
                    pass
            finally:
                self._stop.set()
        return building.result()

    def started(self, phase: str, steps: int) -> None:
        """A phase of so many steps begins."""
        self._steps[phase] = steps

    def stepped(self, phase: str, step: int) -> bool:
        """A step of a phase, counted from 0, is done. Returns whether the builder is to go on."""
        now = self._clock()
        if now - self._last >= self._seconds:
            self._last = now
            self._tell(f"{self._what}: {phase}, {step + 1} of {self._steps.get(phase, step + 1)}")
        return not self._stop.is_set()


class Contexts(ABC):
    """Makes the execution contexts of one loaded engine, and hears of its runs.

    graphs: whether the engine's own runner is to record CUDA graphs.
    """

    graphs = False

    @abstractmethod
    def create(self) -> trt.IExecutionContext | None:
        """A new context; None where there is no device memory for it."""

    @abstractmethod
    def warmed(self) -> None:
        """A context has run shapes that it had not seen before."""


class Flavour(ABC):
    """What a flavour does its own way.

    Attributes:
        title: for people.
    """

    title: str

    @property
    @abstractmethod
    def library(self) -> Library:
        """The flavour's module."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of that module."""

    @abstractmethod
    def options(self, request: BuildRequest) -> Options:
        """What the policy states of the target; the flavour's own type."""

    @abstractmethod
    def make(
        self,
        builder: trt.Builder,
        network: trt.INetworkDefinition,
        config: trt.IBuilderConfig,
        graph: bytes,
        request: BuildRequest,
    ) -> bytes | None:
        """The plan of a parsed network whose config holds what both flavours ask for.

        Args:
            graph: the ONNX file that the network was parsed from.

        Returns:
            None if TensorRT refused; the logger has heard why.

        Raises:
            RefitRefused: it built the plan, and does not put the weights into it.
        """

    @abstractmethod
    def runtimes(self, logger: trt.ILogger, artifact: EngineArtifact) -> tuple[trt.Runtime, ...]:
        """What deserializes a plan of this flavour, last, after what must outlive it.

        Raises:
            NotRunnableHere: the plan needs a runtime of its own version, which does not load here.
        """

    @abstractmethod
    def contexts(self, engine: trt.ICudaEngine, artifact: EngineArtifact, configuration: Configuration) -> Contexts:
        """Contexts of a loaded engine, by settings that the backend lists as tunable."""

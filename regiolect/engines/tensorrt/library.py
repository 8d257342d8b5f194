"""What a flavour is to the modules that both share: TensorRT's own names, typed by plain TensorRT's stubs, and a few
steps that each flavour takes its own way. Imports no vendor's library."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from regiolect.contracts import BuildRequest, Configuration, EngineArtifact
from regiolect.engines.engine import excerpt

if TYPE_CHECKING:
    import tensorrt as trt

# Severities as both flavours number them: INTERNAL_ERROR, ERROR.
_WORST = (0, 1)


class Library(Protocol):
    """What is used of a flavour's module besides what the flavour wraps."""

    __version__: str
    Builder: type[trt.Builder]
    BuilderFlag: type[trt.BuilderFlag]
    Dims: type[trt.Dims]
    LayerInformationFormat: type[trt.LayerInformationFormat]
    MemoryPoolType: type[trt.MemoryPoolType]
    NetworkDefinitionCreationFlag: type[trt.NetworkDefinitionCreationFlag]
    OnnxParser: type[trt.OnnxParser]
    ProfilingVerbosity: type[trt.ProfilingVerbosity]
    Runtime: type[trt.Runtime]
    TensorIOMode: type[trt.TensorIOMode]

    def nptype(self, trt_type: trt.DataType) -> Any:
        """NumPy's type for one of TensorRT's."""


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


class Progress:
    """Tells how far a build is, and stops it when somebody interrupts the thread that waits for it.

    TensorRT asks it from its own frames, which no exception may cross: what is raised is kept, the builder is told to
    stop, and `raise_again` raises it where it belongs.

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
        self._keeper = _Keeper()

    def started(self, phase: str, steps: int) -> None:
        """A phase of so many steps begins."""
        with self._keeper:
            self._steps[phase] = steps

    def stepped(self, phase: str, step: int) -> bool:
        """A step of a phase, counted from 0, is done. Returns whether the builder is to go on."""
        with self._keeper:
            now = self._clock()
            if now - self._last >= self._seconds:
                self._last = now
                self._tell(f"{self._what}: {phase}, {step + 1} of {self._steps.get(phase, step + 1)}")
        return self._keeper.kept is None

    def raise_again(self) -> None:
        """Raises what interrupted the build, if anything did."""
        if self._keeper.kept is not None:
            raise self._keeper.kept


class _Keeper:
    """Keeps the first thing that is raised within."""

    def __init__(self) -> None:
        self.kept: BaseException | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.kept = self.kept or error
        return True


class Contexts(ABC):
    """Makes the execution contexts of one loaded engine, and hears of its runs.

    graphs: whether the engine's own runner is to record CUDA graphs.
    """

    graphs = False

    @abstractmethod
    def create(self) -> trt.IExecutionContext | None:
        """A new context; None where there is no device memory for it."""

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

    @abstractmethod
    def logger(self, messages: Messages) -> trt.ILogger:
        """A logger that gives everything to `messages`."""

    @abstractmethod
    def monitor(self, progress: Progress) -> trt.IProgressMonitor:
        """A monitor that gives everything to `progress`."""

    @abstractmethod
    def workspace_mib(self, request: BuildRequest) -> int | None:
        """Most scratch memory of a kernel; None: as TensorRT has it."""

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
        """

    @abstractmethod
    def runtime(self, logger: trt.ILogger, artifact: EngineArtifact) -> trt.Runtime:
        """What deserializes plans of this flavour."""

    @abstractmethod
    def contexts(self, engine: trt.ICudaEngine, artifact: EngineArtifact, configuration: Configuration) -> Contexts:
        """Contexts of a loaded engine, by settings that the backend lists as tunable."""

"""What TensorRT calls while it works: its classes are made from the flavour's own, and pass everything on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regiolect.engines.tensorrt.library import Library, Messages, Progress

if TYPE_CHECKING:
    import tensorrt as trt


def logger_of(library: Library, messages: Messages) -> trt.ILogger:
    """A logger that gives everything to `messages`."""
    base: Any = library.ILogger

    class Logger(base):  # type: ignore[misc]  # known when it runs
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: trt.ILogger.Severity, message: str) -> None:
            messages.take(int(severity), message)

    made: trt.ILogger = Logger()
    return made


def monitor_of(library: Library, progress: Progress) -> trt.IProgressMonitor:
    """A monitor that gives everything to `progress`."""
    base: Any = library.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # known when it runs
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            progress.started(phase, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            return progress.stepped(phase, step)

        def phase_finish(self, phase: str) -> None:
            """Nothing is told of it."""

    made: trt.IProgressMonitor = Monitor()
    return made

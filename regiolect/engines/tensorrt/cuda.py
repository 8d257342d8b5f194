"""Device memory, streams and recorded graphs, through NVIDIA's own bindings. Needs no PyTorch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import NDArray

from regiolect.errors import DeviceLost

_FIRST_DEVICE = 0
_TO_DEVICE = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
_TO_HOST = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
# What CUDA answers once a GPU fell off the bus, was reset, or was taken away. Nothing on it can be used any more.
_LOST = (
    "cudaErrorNoDevice",
    "cudaErrorInvalidDevice",
    "cudaErrorDevicesUnavailable",
    "cudaErrorDeviceUninitialized",
    "cudaErrorContextIsDestroyed",
    "cudaErrorECCUncorrectable",
    "cudaErrorNvlinkUncorrectable",
    "cudaErrorSystemNotReady",
)


class CudaFailed(RuntimeError):
    """CUDA refused a call."""


def checked(answer: tuple[Any, ...]) -> Any:
    """The result of a call of CUDA's runtime, of which the first part is its status.

    Raises:
        DeviceLost: the GPU is gone.
        CudaFailed: anything else went wrong.
    """
    status, *results = answer
    if status != cudart.cudaError_t.cudaSuccess:
        message = f"{status.name}: {cudart.cudaGetErrorString(status)[1].decode()}"
        if status.name in _LOST:
            raise DeviceLost(
                expected="an NVIDIA GPU that answers",
                found=message,
                remedy="look at `nvidia-smi` and at the kernel's log, then load the engine again or on another machine",
            )
        raise CudaFailed(message)
    return results[0] if results else None


def use_first_device() -> None:
    """Make the GPU that `regiolect.host.gpu.gpu` tells of this thread's own."""
    checked(cudart.cudaSetDevice(_FIRST_DEVICE))


class Stream:
    """A stream of work on the GPU."""

    def __init__(self) -> None:
        self._stream = checked(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))
        self.handle = int(self._stream)
        weakref.finalize(self, cudart.cudaStreamDestroy, self._stream)

    def wait(self) -> None:
        """Until everything in it is done."""
        checked(cudart.cudaStreamSynchronize(self._stream))

    def recorded(self, work: Callable[[], bool]) -> Graph | None:
        """What `work` puts into the stream, as a graph that can be launched again; None if `work` says it failed."""
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cudart.cudaStreamBeginCapture(self._stream, mode))
        done = False
        try:
            done = work()
        finally:
            answer = cudart.cudaStreamEndCapture(self._stream)
        return Graph(checked(answer), self._stream) if done else None


class Graph:
    """Recorded work."""

    def __init__(self, graph: Any, stream: Any) -> None:
        self._stream = stream
        self._run = checked(cudart.cudaGraphInstantiate(graph, 0))
        weakref.finalize(self, cudart.cudaGraphExecDestroy, self._run)
        checked(cudart.cudaGraphDestroy(graph))

    def launch(self) -> None:
        """Put it into the stream that it was recorded from."""
        checked(cudart.cudaGraphLaunch(self._run, self._stream))


class Buffer:
    """Device memory of a fixed size, in bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._address = checked(cudart.cudaMalloc(max(size, 1)))
        self.address = int(self._address)
        weakref.finalize(self, cudart.cudaFree, self._address)

    def take(self, array: NDArray[Any], stream: Stream) -> None:
        """Copy a contiguous array to the front of it. The array must live until the stream is done."""
        self._copy(self.address, array.ctypes.data, array.nbytes, _TO_DEVICE, stream)

    def give(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: Stream) -> NDArray[Any]:
        """A new array, filled from the front of it once the stream is done."""
        array = np.empty(shape, dtype)
        self._copy(array.ctypes.data, self.address, array.nbytes, _TO_HOST, stream)
        return array

    def _copy(self, to: int, source: int, size: int, kind: Any, stream: Stream) -> None:
        if size > self.size:
            raise CudaFailed(f"{size} bytes do not fit into a buffer of {self.size}")
        checked(cudart.cudaMemcpyAsync(to, source, size, kind, stream.handle))

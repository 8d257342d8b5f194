"""The NVIDIA GPU that this process would use, as far as an engine cares. Cheap, and needs no CUDA."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from regiolect.errors import DeviceLost


@dataclass(frozen=True)
class Gpu:
    """One GPU. `cuda` is the newest CUDA version that its driver takes."""

    name: str
    compute_capability: str
    driver: str
    cuda: str

    def fingerprint(self) -> dict[str, str]:
        """Entries for a backend's fingerprint."""
        return {"gpu": self.name, "compute capability": self.compute_capability, "driver": self.driver}


def seeing() -> bool:
    """Whether nvidia-ml-py is installed, without which no GPU is seen."""
    return importlib.util.find_spec("pynvml") is not None


def gpu() -> Gpu | None:
    """The first GPU that CUDA would show to this process; None where there is none, or no driver.

    Raises:
        DeviceLost: the driver knows a GPU that does not answer.
    """
    with _driver() as nvml:
        if nvml is None:
            return None
        try:
            device = _visible(nvml)
            if device is None:
                return None
            major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
            newest = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
            return Gpu(
                name=str(nvml.nvmlDeviceGetName(device)),
                compute_capability=f"{major}.{minor}",
                driver=str(nvml.nvmlSystemGetDriverVersion()),
                cuda=f"{newest // 1000}.{newest % 1000 // 10}",
            )
        except nvml.NVMLError as error:
            raise DeviceLost(
                expected="an NVIDIA GPU that answers its driver",
                found=str(error),
                remedy="look at `nvidia-smi` and at the kernel's log; the GPU may have to be reset, or the machine",
            ) from error


@contextmanager
def lost_if_gone(target: str, failures: tuple[type[Exception], ...]) -> Iterator[None]:
    """Tell what an engine raises on a GPU that went away from what is its own fault.

    Args:
        target: where the engine was loaded.
        failures: what it may raise.

    Raises:
        DeviceLost: one of `failures` was raised, and the GPU does not answer any more.
        What was raised: otherwise.
    """
    try:
        yield
    except failures as error:
        if gpu() is None:
            raise DeviceLost(
                expected=f"the GPU that {target} was loaded on",
                found=f"none any more: {error}",
                remedy="look at `nvidia-smi` and the kernel's log, then start this process again",
            ) from error
        raise


@contextmanager
def _driver() -> Iterator[Any]:
    """NVML, or None where it is not installed or finds no driver."""
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _visible(nvml: Any) -> Any:
    """CUDA numbers GPUs after what CUDA_VISIBLE_DEVICES leaves of them; NVML does not look at it."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = "0" if shown is None else shown.split(",")[0].strip()
    if first.isdigit():
        known = int(first) < int(nvml.nvmlDeviceGetCount())
        return nvml.nvmlDeviceGetHandleByIndex(int(first)) if known else None
    return nvml.nvmlDeviceGetHandleByUUID(first) if first.startswith(("GPU-", "MIG-")) else None

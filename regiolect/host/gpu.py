"""The NVIDIA GPU that this process would use, as far as an engine cares. Cheap, and needs no CUDA."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from regiolect.errors import DeviceLost

_ORDER, _BY_BUS = "CUDA_DEVICE_ORDER", "PCI_BUS_ID"


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

    NVML numbers GPUs by their place on the bus, CUDA the fastest first: unless this process chose an order, CUDA is
    told to number them as NVML does. It listens until it is used for the first time. See `unclear`.

    Raises:
        DeviceLost: the driver knows a GPU that does not answer.
    """
    os.environ.setdefault(_ORDER, _BY_BUS)
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
            raise _silent(error) from error


def unclear() -> str | None:
    """Why nobody can tell which GPU CUDA takes for the first; None where it is clear.

    Raises:
        DeviceLost: the driver knows a GPU that does not answer.
    """
    order = os.environ.get(_ORDER, _BY_BUS)
    if order == _BY_BUS or os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith(("GPU-", "MIG-")):
        return None
    with _driver() as nvml:
        try:
            kinds = set() if nvml is None else {str(nvml.nvmlDeviceGetName(each)) for each in _devices(nvml)}
        except nvml.NVMLError as error:
            raise _silent(error) from error
    if len(kinds) < 2:
        return None
    return f"{_ORDER}={order}, by which it is not known which of {', '.join(sorted(kinds))} comes first: unset it"


@contextmanager
def lost_if_gone(target: str, failures: tuple[type[Exception], ...]) -> Iterator[None]:
    """Tell what is raised because a GPU went away from what is a fault of the engine's own.

    Args:
        target: where an engine is built, loaded, asked or run.
        failures: what that may raise.

    Raises:
        DeviceLost: one of `failures` was raised, and the GPU does not answer any more.
        What was raised: otherwise.
    """
    try:
        yield
    except failures as error:
        if gpu() is None:
            raise DeviceLost(
                expected=f"the GPU of {target}, which answered before",
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
    """CUDA numbers GPUs after what CUDA_VISIBLE_DEVICES leaves of them; NVML does not look at it. What it does not know
    CUDA takes for the end of the list."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = "0" if shown is None else shown.split(",")[0].strip()
    if first.isdigit():
        known = int(first) < int(nvml.nvmlDeviceGetCount())
        return nvml.nvmlDeviceGetHandleByIndex(int(first)) if known else None
    if not first.startswith(("GPU-", "MIG-")):
        return None
    try:
        return nvml.nvmlDeviceGetHandleByUUID(first)
    except (nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument):
        # As much of a name as no other GPU shares is enough for CUDA.
        found = [each for each in _devices(nvml) if str(nvml.nvmlDeviceGetUUID(each)).startswith(first)]
        return found[0] if len(found) == 1 else None


def _devices(nvml: Any) -> Iterator[Any]:
    return (nvml.nvmlDeviceGetHandleByIndex(place) for place in range(int(nvml.nvmlDeviceGetCount())))


def _silent(error: Exception) -> DeviceLost:
    return DeviceLost(
        expected="an NVIDIA GPU that answers its driver",
        found=str(error),
        remedy="look at `nvidia-smi` and at the kernel's log; the GPU may have to be reset, or the machine",
    )

"""What of a GPU can be told without one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from regiolect.errors import DeviceLost, EngineError
from regiolect.host import gpu

HERE = gpu.Gpu(name="a GPU", compute_capability="9.0", driver="580", cuda="13.0")
FAILED = EngineError("to run", "an illegal memory access, says the vendor", "load it again")


def test_a_failure_on_a_gpu_that_is_gone_is_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpu", lambda: None)
    with pytest.raises(DeviceLost, match="illegal memory access") as lost, gpu.lost_if_gone("gpu-eu", (EngineError,)):
        raise FAILED
    assert "gpu-eu" in lost.value.expected
    assert lost.value.__cause__ is FAILED


def test_a_failure_on_a_gpu_that_answers_stays_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpu", lambda: HERE)
    with pytest.raises(EngineError) as failed, gpu.lost_if_gone("gpu-eu", (EngineError,)):
        raise FAILED
    assert failed.value is FAILED


# ------------------------------------------------------------------------------- which GPU is CUDA's first

T4, L4 = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-8932aaaa-0000-4106-c12f-20bd9faed9f6"


def driver_of(*devices: tuple[str, str]) -> Any:
    """As much of NVML as is asked, of GPUs by UUID and name; with NVML's own errors."""
    uuids = [uuid for uuid, _ in devices]

    def by_uuid(uuid: str) -> int:
        if uuid not in uuids:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuids.index(uuid)

    return SimpleNamespace(
        NVMLError=pynvml.NVMLError,
        NVMLError_NotFound=pynvml.NVMLError_NotFound,
        NVMLError_InvalidArgument=pynvml.NVMLError_InvalidArgument,
        nvmlDeviceGetCount=lambda: len(devices),
        nvmlDeviceGetHandleByIndex=lambda place: place,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetUUID=lambda place: uuids[place],
        nvmlDeviceGetName=lambda place: devices[place][1],
        nvmlDeviceGetCudaComputeCapability=lambda place: (7, 5),
        nvmlSystemGetCudaDriverVersion_v2=lambda: 13000,
        nvmlSystemGetDriverVersion=lambda: "580.1",
    )


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def both() -> Iterator[Any]:
        yield driver_of((T4, "Tesla T4"), (L4, "NVIDIA L4"))

    monkeypatch.setattr(gpu, "_driver", both)
    for name in ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES"):
        # Set first, so that what a test leaves there is undone as well.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("0", "Tesla T4"),
        ("1,0", "NVIDIA L4"),
        ("2", None),
        ("-1", None),
        ("", None),
        (L4, "NVIDIA L4"),
        ("GPU-8932a", "NVIDIA L4"),
        ("GPU-8932", None),
        ("GPU-7", None),
        ("MIG-7", None),
    ],
)
def test_the_first_gpu_is_the_one_that_cuda_would_show(
    shown: str, name: str | None, two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    found = gpu.gpu()
    assert (None if found is None else found.name) == name


def test_cuda_is_told_to_number_gpus_as_their_driver_does(two: None) -> None:
    assert gpu.gpu() is not None
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert gpu.unclear() is None


def test_an_order_that_was_chosen_otherwise_is_refused_where_it_matters(
    two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert gpu.gpu() is not None
    assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    told = gpu.unclear()
    assert told is not None and "NVIDIA L4, Tesla T4" in told
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", L4)
    assert gpu.unclear() is None, "a name has no order"

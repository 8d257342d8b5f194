"""What of a GPU can be told without one."""

from __future__ import annotations

import pytest

from regiolect import gpus
from regiolect.errors import DeviceLost, EngineError

HERE = gpus.Gpu(name="a GPU", compute_capability="9.0", driver="580", cuda="13.0")
FAILED = EngineError("to run", "an illegal memory access, says the vendor", "load it again")


def test_a_failure_on_a_gpu_that_is_gone_is_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "gpu", lambda: None)
    with pytest.raises(DeviceLost, match="illegal memory access") as lost, gpus.lost_if_gone("gpu-eu", (EngineError,)):
        raise FAILED
    assert "gpu-eu" in lost.value.expected
    assert lost.value.__cause__ is FAILED


def test_a_failure_on_a_gpu_that_answers_stays_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "gpu", lambda: HERE)
    with pytest.raises(EngineError) as failed, gpus.lost_if_gone("gpu-eu", (EngineError,)):
        raise FAILED
    assert failed.value is FAILED

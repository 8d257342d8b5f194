"""What Prefect keeps of a run in this process tells no secret: its log, and states by the errors of tasks."""

from __future__ import annotations

import logging

import pytest

import flows  # noqa: F401 - as a worker's process does
from tasks.in_child import in_child

ADDRESS = "https://bot:planted-0815@data.example/eu.npz"


def stage() -> None:
    raise ValueError(ADDRESS)


def test_a_stage_that_is_not_isolated_raises_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIOLECT_ISOLATION", "off")
    with pytest.raises(RuntimeError, match="data") as raised:
        in_child(stage)
    assert type(raised.value).__name__ == "ValueError"
    assert "planted" not in str(raised.value)


def test_a_run_logs_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    try:
        stage()
    except ValueError:
        logging.getLogger("prefect.flow_runs").exception("it failed")
    assert "ValueError: https://bot:***@data.example/eu.npz" in caplog.text
    assert "planted" not in caplog.text

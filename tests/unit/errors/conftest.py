"""An environment without addresses, for tests of this folder."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "REGIOLECT_MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

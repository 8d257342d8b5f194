"""Which file a project's settings are from."""

from __future__ import annotations

import pytest

from regiolect.doctor.project import settings_file
from regiolect.settings import PROJECT_FILE


def test_the_file_that_settings_were_read_from_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROJECT_FILE, raising=False)
    assert list(settings_file()) == []
    monkeypatch.setenv(PROJECT_FILE, "/shop/regiolect.toml")
    assert [finding.found for finding in settings_file()] == ["/shop/regiolect.toml"]

"""Lines of progress reach stderr, and nothing that happens to them there ends a release."""

from __future__ import annotations

import io
import os
import sys

import pytest

from regiolect.progress import logger, note, watching

QUIET = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"


def test_a_closed_stderr_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    monkeypatch.setattr(sys, "stderr", closed)
    monkeypatch.setenv(QUIET, "CRITICAL")
    with watching():
        note("begins")
        assert closed.getvalue() == "begins\n"
        closed.close()
        note("goes on")
    assert not logger.handlers


@pytest.mark.parametrize(("verbose", "level"), [(False, "CRITICAL"), (True, None)])
def test_without_progress_the_libraries_are_no_louder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verbose: bool, level: str | None
) -> None:
    monkeypatch.setenv(QUIET, "as it was")
    del os.environ[QUIET]
    with watching(verbose, progress=False):
        note("not printed")
        assert os.environ.get(QUIET) == level
    assert capsys.readouterr().err == ""

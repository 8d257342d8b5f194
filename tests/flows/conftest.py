"""One Prefect server and one empty MLflow database for all tests of this folder; a workshop and a home for each."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from regiolect.registry import Registry
from regiolect.settings import load_settings
from tests.flows.tiny_models import WORKSHOP, Workshop


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many cases of tampering were tried, and how many of them were refused and reported."""
    told = {
        how: sum("test_tamper.py::test_refused" in report.nodeid for report in terminalreporter.stats.get(how, ()))
        for how in ("passed", "failed", "error")
    }
    if any(told.values()):
        tried = sum(told.values())
        terminalreporter.write_line(f"tamper suite: {told['passed']} of {tried} cases refused and reported")


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that every flow run of this session uses."""
    scratch = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        # A lock in the temporary folder keeps timings apart from other builds; tests wait for nobody but themselves.
        patch.setattr(tempfile, "tempdir", str(scratch))
        patch.setenv("TMPDIR", str(scratch))
        patch.setenv("PREFECT_HOME", str(scratch / "prefect"))
        patch.setenv("PREFECT_LOGGING_LEVEL", "CRITICAL")
        load_settings()
        Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
        from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
        from prefect.testing.utilities import prefect_test_harness

        # Every flow waits for its heartbeat's sleep to end, up to a second.
        no_heartbeat = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
        with no_heartbeat, prefect_test_harness(server_startup_timeout=120):
            yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in them: to make one takes seconds, to copy one does not."""
    database = tmp_path_factory.mktemp("registry") / "mlflow.db"
    Registry(f"sqlite:///{database}", None).champion("nobody", "nowhere")
    return database


@pytest.fixture(scope="module")
def module_workshop(
    prefect_server: str, empty_registry: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    """A workshop that the tests of one module share."""
    with pytest.MonkeyPatch.context() as patch:
        yield _open(tmp_path_factory.mktemp("workshop"), empty_registry, patch)


@pytest.fixture
def workshop(prefect_server: str, empty_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop of the test's own; its releases go to its folder `home`."""
    return _open(tmp_path, empty_registry, monkeypatch)


def _open(folder: Path, empty_registry: Path, patch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(folder)
    made.write_model()
    home = folder / "home"
    home.mkdir()
    shutil.copyfile(empty_registry, home / "mlflow.db")
    settings = {WORKSHOP: folder, "REGIOLECT_HOME": home, "REGIOLECT_POLICIES": made.policies}
    for name, value in settings.items():
        patch.setenv(name, str(value))
    return made


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases run their stages in this process: what a test changes here is changed there."""
    monkeypatch.setenv("REGIOLECT_ISOLATION", "off")


@pytest.fixture
def environment(prefect_server: str, workshop: Workshop) -> Mapping[str, str]:
    """For another process that works in this test's workshop and with this session's server."""
    return {**os.environ, "PREFECT_API_URL": prefect_server, "REGIOLECT_BUILD_ON": "here"}

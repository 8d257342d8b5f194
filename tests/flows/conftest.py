"""One Prefect server for all tests of this folder in a process; a workshop and a home for each."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from regiolect.host.isolated import start_fork_server
from regiolect.release.stages import PRELOADED
from regiolect.settings import load_settings
from tests.databases import Databases
from tests.flows.tiny_models import WORKSHOP, Workshop
from tests.patience import PATIENCE


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
def prefect_server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that every flow run of this session uses."""
    scratch = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        # A lock in the temporary folder keeps timings apart from other builds; tests wait for nobody but themselves.
        patch.setattr(tempfile, "tempdir", str(scratch))
        patch.setenv("TMPDIR", str(scratch))
        patch.setenv("PREFECT_HOME", str(scratch / "prefect"))
        patch.setenv("PREFECT_LOGGING_LEVEL", "CRITICAL")
        # As the server of a command (`regiolect.servers.temporary`): imports of collections are seconds.
        patch.setenv("PREFECT_SERVER_REGISTER_BLOCKS_ON_START", "0")
        patch.setenv("PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION", "0")
        load_settings()
        Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
        from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
        from prefect.testing.utilities import prefect_test_harness

        # Where it makes its database: there is one already.
        databases.put_prefect(scratch / "server")
        (scratch / "server" / "prefect.db").rename(scratch / "server" / "prefect-test.db")
        patch.setattr("prefect.testing.utilities.mkdtemp", lambda: str(scratch / "server"))
        # Every flow waits for its heartbeat's sleep to end, up to a second.
        no_heartbeat = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
        with no_heartbeat, prefect_test_harness(server_startup_timeout=int(PATIENCE)):
            yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="module")
def module_workshop(
    prefect_server: str, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    """A workshop that the tests of one module share."""
    with pytest.MonkeyPatch.context() as patch:
        yield _open(tmp_path_factory.mktemp("workshop"), databases, patch)


@pytest.fixture
def workshop(prefect_server: str, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop of the test's own; its releases go to its folder `home`."""
    return _open(tmp_path, databases, monkeypatch)


# What an export imports: with a home for each test, each of them exports, which a release of something known does not.
EXPORTING = ("onnxscript.optimizer", "onnxscript.rewriter", "onnx_ir.passes.common")


def _open(folder: Path, databases: Databases, patch: pytest.MonkeyPatch) -> Workshop:
    # While it imports, the test makes what it releases.
    start_fork_server((*PRELOADED, *EXPORTING))
    made = Workshop(folder)
    made.write_model()
    home = folder / "home"
    home.mkdir()
    databases.put_mlflow(home)
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

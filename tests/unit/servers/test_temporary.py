"""The Prefect server of one command, on its way up: slow, dead, hung, or without room on the disk."""

from __future__ import annotations

import os
import shutil
import signal
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from regiolect.errors import OrchestratorError, StorageError
from regiolect.servers import processes, temporary
from regiolect.servers.processes import is_alive
from regiolect.servers.temporary import TemporaryServer
from regiolect.settings import Settings
from tests.databases import Databases
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TemporaryServer]:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    made = TemporaryServer(tmp_path)
    yield made
    made.stop()


def process_of(server: TemporaryServer) -> int:
    assert server.process is not None
    return server.process.pid


def test_one_that_hangs_or_is_killed_is_started_again_and_says_so(
    server: TemporaryServer,
    databases: Databases,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    databases.put_prefect(server.folder)
    monkeypatch.setattr(processes, "SAY_SECONDS", 0.5)
    monkeypatch.setattr(temporary, "IDLE_SECONDS", 5.0)
    server.begin()
    assert not Settings().has_server, "it is no place where people answer"
    first = process_of(server)
    os.kill(first, signal.SIGSTOP)
    server.wait()
    assert caplog.messages[0].startswith(f"waits for the temporary Prefect server to start: process {first}, for ")
    assert "the temporary Prefect server did not start (it did nothing for 5 s); once more" in caplog.messages
    assert process_of(server) != first
    assert httpx.get(f"{server.address}/api/health", timeout=PATIENCE).status_code == 200

    known = server.process
    server.stop()
    assert known is not None
    assert not is_alive(known)
    assert "PREFECT_API_URL" not in os.environ
    assert not list(server.folder.glob("*.log*"))


def test_one_that_dies_each_time_is_named_with_the_end_of_its_log(
    server: TemporaryServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "ATTEMPTS", 1)
    (server.folder / "prefect.db").write_bytes(b"This was a database until something else was written to it. " * 100)
    server.begin()
    with pytest.raises(OrchestratorError) as caught:
        server.wait()
    assert "in 1 attempts" in caught.value.expected
    assert "it ended with exit code 3" in caught.value.found
    assert "file is not a database" in caught.value.found
    assert str(server.folder) in caught.value.remedy
    assert not [line for line in caplog.messages if "once more" in line]


def test_a_disk_that_is_full_by_then_is_told_as_such(server: TemporaryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.begin()
    os.kill(process_of(server), signal.SIGKILL)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 1 << 20))
    with pytest.raises(StorageError, match=r"256 MiB free.*found 1 MiB"):
        server.wait()


def test_a_disk_that_was_full_when_it_died_is_told_as_such(server: TemporaryServer) -> None:
    server.begin()
    os.kill(process_of(server), signal.SIGKILL)
    with server.log.open("a") as log:
        log.write("sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database or disk is full\n")
    with pytest.raises(StorageError, match="the disk was full"):
        server.wait()

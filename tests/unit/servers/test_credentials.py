"""Secrets of the local servers: made once, completed by a newer version, never made twice."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from regiolect.errors import Busy, StorageError
from regiolect.servers.credentials import Credentials, keep_credentials
from regiolect.servers.files import write_private
from regiolect.servers.processes import last_lines
from tests.unit.servers.conftest import OLD_CREDENTIALS


def test_a_file_of_an_earlier_version_is_completed_and_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    write_private(path, json.dumps(OLD_CREDENTIALS))
    # As several commands at once would.
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: keep_credentials(path), range(16)))
    assert len({made.model_dump_json() for made in kept}) == 1
    assert kept[0].model_dump() == json.loads(path.read_text())
    assert OLD_CREDENTIALS.items() <= kept[0].model_dump().items()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_secret_is_long_its_own_and_hidden(tmp_path: Path) -> None:
    made = keep_credentials(tmp_path / "credentials.json")
    secrets = list(made.model_dump().values())
    assert len(set(secrets)) == len(Credentials.model_fields)
    assert min(map(len, secrets)) >= 20
    assert not [secret for secret in secrets if secret in repr(made) or secret in made.hide(" ".join(secrets))]


@pytest.mark.parametrize("content", ["", "[]", '{"access_key": 1}', '{"unknown": "x"}', "\x00"])
def test_a_damaged_file_is_named_without_what_it_holds(tmp_path: Path, content: str) -> None:
    path = tmp_path / "credentials.json"
    write_private(path, content)
    with pytest.raises(StorageError, match="backup") as failed:
        keep_credentials(path)
    assert failed.value.__cause__ is None
    assert path.read_text() == content


def test_another_process_that_makes_them_without_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regiolect.servers.credentials._LOCK_SECONDS", 0.2)
    path = tmp_path / "credentials.json"
    with FileLock(path.with_suffix(".lock")), pytest.raises(Busy, match=f"to make {path} within 0.2 s"):
        keep_credentials(path)


@pytest.mark.timeout(60)
def test_the_end_of_a_log_is_read_without_what_comes_before(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log) == ""
    log.write_text("one\ntwo\n")
    assert last_lines(log) == "one\ntwo"
    os.truncate(log, 1 << 40)
    with log.open("a") as file:
        file.write("\nlast but one\nlast\n")
    assert last_lines(log, 2) == "last but one\nlast"

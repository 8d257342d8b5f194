"""The local store: content is immutable and verified, records are whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regiolect.contracts import Blob, Target
from regiolect.errors import IntegrityError, StorageError
from regiolect.storage import LocalStore


@given(data=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_content_comes_back_as_it_was_put(tmp_path: Path, data: bytes) -> None:
    store = LocalStore(tmp_path)
    blob = store.put_bytes(data)
    assert store.path_of(blob).read_bytes() == data
    assert blob.size == len(data)
    assert store.has(blob)


def test_the_same_content_is_kept_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    (tmp_path / "file").write_bytes(b"same")
    assert store.put_bytes(b"same") == store.put_file(tmp_path / "file")
    assert len([path for path in (tmp_path / "store" / "blobs").rglob("*") if path.is_file()]) == 1


def test_changed_content_is_refused_when_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    blob = store.put_bytes(b"engine")
    store.path_of(blob).write_bytes(b"enginE")
    with pytest.raises(IntegrityError, match="changed or damaged"):
        store.path_of(blob)


def test_content_that_is_gone_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    blob = store.put_bytes(b"engine")
    store.path_of(blob).unlink()
    assert not store.has(blob)
    with pytest.raises(StorageError, match="no such file"):
        store.path_of(blob)


def test_truncated_content_does_not_count_as_there(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    blob = store.put_bytes(b"engine")
    store.path_of(blob).write_bytes(b"eng")
    assert not store.has(blob)


def test_a_record_comes_back_and_the_newest_is_first(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for at, name in enumerate(("one", "two")):
        store.put_record("targets", name, Target(name=name, backend="openvino"))
        os.utime(tmp_path / "records" / "targets" / f"{name}.json", ns=(at, at))
    assert store.get_record("targets", "one", Target) == Target(name="one", backend="openvino")
    assert [target.name for target in store.records("targets", Target)] == ["two", "one"]


def test_a_damaged_record_is_as_good_as_none(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_record("targets", "one", Target(name="one", backend="openvino"))
    (tmp_path / "records" / "targets" / "one.json").write_text('{"name": "on')
    assert store.get_record("targets", "one", Target) is None
    assert store.get_record("targets", "never", Target) is None


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = LocalStore(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        store.put_bytes(b"engine")
    assert "free space" in caught.value.remedy
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_write_that_dies_half_way_leaves_no_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    store = LocalStore(tmp_path)
    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        store.put_bytes(b"engine")
    monkeypatch.undo()
    blob = Blob(uri="", digest=store.put_bytes(b"engine").digest, size=6)
    assert store.path_of(blob).read_bytes() == b"engine"


@pytest.mark.timeout(60)
def test_what_is_too_large_to_be_the_content_is_replaced_without_being_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    (tmp_path / "file").write_bytes(b"engine")
    for put in (lambda: store.put_bytes(b"engine"), lambda: store.put_file(tmp_path / "file")):
        kept = store.path_of(put())
        kept.chmod(0o600)
        os.truncate(kept, 1 << 40)
        assert store.path_of(put()).read_bytes() == b"engine"

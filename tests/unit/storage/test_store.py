"""What every store keeps to, in a folder and on a real S3 server alike."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regiolect.contracts import Blob, Target
from regiolect.errors import ContentMissing
from regiolect.integrity import digest_bytes
from regiolect.storage import Store
from tests.patience import PATIENCE

Again = Callable[[], Store]


def target(name: str) -> Target:
    return Target(name=name, backend="openvino")


@pytest.mark.parametrize("data", [b"", b"\x00", b"engine" * 50_000], ids=["empty", "one byte", "300 kB"])
def test_content_comes_back_as_it_was_put(store: Store, again: Again, data: bytes) -> None:
    blob = store.put_bytes(data)
    assert (blob.digest, blob.size) == (digest_bytes(data), len(data))
    for reader in (store, again()):
        assert reader.has(blob)
        assert reader.path_of(blob).read_bytes() == data


def test_a_file_is_kept_as_its_content(store: Store, again: Again, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"same")
    assert store.put_file(tmp_path / "file") == store.put_bytes(b"same")
    (tmp_path / "file").unlink()
    assert again().path_of(store.put_bytes(b"same")).read_bytes() == b"same"


def test_a_blob_is_found_by_its_digest_whatever_its_address(store: Store) -> None:
    blob = store.put_bytes(b"engine")
    assert store.path_of(Blob(uri="", digest=blob.digest, size=6)).read_bytes() == b"engine"


def test_an_address_ends_in_the_digest(store: Store) -> None:
    blob = store.put_bytes(b"engine")
    name = hashlib.sha256(b"engine").hexdigest()
    assert blob.uri.endswith(f"/blobs/{name[:2]}/{name}")
    assert blob.uri.startswith(("file:///", "s3://regiolect/"))


def test_content_that_never_was_there_is_named(store: Store) -> None:
    blob = Blob(uri="", digest=digest_bytes(b"never"), size=5)
    assert not store.has(blob)
    with pytest.raises(ContentMissing, match=blob.digest[7:19]) as caught:
        store.path_of(blob)
    assert "--force" in caught.value.remedy


def test_content_of_another_size_does_not_count_as_there(store: Store) -> None:
    blob = store.put_bytes(b"engine")
    assert not store.has(blob.model_copy(update={"size": 7}))


def test_a_record_comes_back_and_a_later_one_replaces_it(store: Store, again: Again) -> None:
    store.put_record("targets", "sha256:ab", target("one"))
    store.put_record("targets", "sha256:ab", target("two"))
    assert again().get_record("targets", "sha256:ab", Target) == target("two")
    assert store.get_record("targets", "never", Target) is None


def test_records_of_one_kind_come_newest_first(store: Store, again: Again) -> None:
    store.put_record("others", "other", target("other"))
    for name in ("b", "a", "c"):
        store.put_record("targets", name, target(name))
    deadline = time.monotonic() + PATIENCE
    # Ages are told to the second on S3, so the newest is written again until it is younger by one.
    while next(again().records("targets", Target)) != target("b"):
        assert time.monotonic() < deadline
        store.put_record("targets", "b", target("b"))
    assert sorted(found.name for found in store.records("targets", Target)) == ["a", "b", "c"]
    assert list(store.records("none", Target)) == []


def test_a_record_of_another_version_is_as_good_as_none(store: Store) -> None:
    store.put_record("targets", "one", store.put_bytes(b"a blob is no target"))
    store.put_record("targets", "two", target("two"))
    assert store.get_record("targets", "one", Target) is None
    assert [found.name for found in store.records("targets", Target)] == ["two"]


def test_the_keys_of_a_kind_are_listed_readable_or_not(store: Store, again: Again) -> None:
    assert list(store.record_keys("latest")) == []
    for key in ("two--eu--cpu", "one--eu--cpu"):
        store.put_record("latest", key, store.put_bytes(key.encode()))
    store.put_record("others", "three", store.put_bytes(b"three"))
    assert list(again().record_keys("latest")) == ["one--eu--cpu", "two--eu--cpu"]


def test_sixteen_writers_of_the_same_content_all_succeed(store: Store, again: Again) -> None:
    data = b"engine" * 100_000
    with ThreadPoolExecutor(16) as pool:
        blobs = set(pool.map(lambda _: store.put_bytes(data), range(16)))
    assert len(blobs) == 1
    assert again().path_of(blobs.pop()).read_bytes() == data

"""Stages that are remembered: found again for the same inputs, made anew when anything they rest on is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from regiolect.contracts import Blob, NamedBlob
from regiolect.storage import LocalStore
from regiolect.storage.stage_cache import cached


class Maker:
    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.calls = 0

    def __call__(self) -> NamedBlob:
        self.calls += 1
        return NamedBlob(path="graph", blob=self.store.put_bytes(b"content"))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_the_same_inputs_are_made_once(store: LocalStore) -> None:
    make = Maker(store)
    first = cached(store, "stage", {"model": "a"}, NamedBlob, make)
    assert cached(store, "stage", {"model": "a"}, NamedBlob, make) == first
    assert make.calls == 1


def test_other_inputs_are_made_again(store: LocalStore) -> None:
    make = Maker(store)
    for model in ("a", "b"):
        cached(store, "stage", {"model": model}, NamedBlob, make)
    assert make.calls == 2


def test_a_result_whose_content_is_gone_is_made_again(store: LocalStore) -> None:
    make = Maker(store)
    kept: Blob = cached(store, "stage", {"model": "a"}, NamedBlob, make).blob
    store.path_of(kept).unlink()
    again = cached(store, "stage", {"model": "a"}, NamedBlob, make)
    assert make.calls == 2
    assert store.path_of(again.blob).read_bytes() == b"content"


def test_a_stage_that_fails_leaves_no_record(store: LocalStore) -> None:
    def fail() -> NamedBlob:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cached(store, "stage", {"model": "a"}, NamedBlob, fail)
    make = Maker(store)
    cached(store, "stage", {"model": "a"}, NamedBlob, make)
    assert make.calls == 1


def test_damaged_content_is_replaced_when_it_is_put_again(store: LocalStore) -> None:
    blob = store.put_bytes(b"content")
    store.path_of(blob).write_bytes(b"c0ntent")
    store.put_bytes(b"content")
    assert store.path_of(blob).read_bytes() == b"content"

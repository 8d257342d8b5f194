"""A look remembers within itself, and nothing outlives it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest

from regiolect.integrity import digest_file, digest_source
from regiolect.scoped_cache import once, one_look


def test_what_changes_between_two_looks_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    first = digest_file(file)
    with one_look():
        assert digest_source(file) == first
        file.write_bytes(b"two")
        assert digest_source(file) == first, "one look, one answer"
        assert digest_file(file) != first, "a verification always reads"
    with one_look():
        assert digest_source(file) == digest_file(file)
    file.write_bytes(b"three")
    assert digest_source(file) == digest_file(file), "outside of a look every question is a new one"


def test_a_look_within_a_look_is_the_same_one() -> None:
    answers = iter(range(9))
    with one_look():
        assert once("key", lambda: next(answers)) == 0
        with one_look():
            assert once("key", lambda: next(answers)) == 0
        assert once("key", lambda: next(answers)) == 0
        assert once("other", lambda: next(answers)) == 1


def test_threads_share_a_look_only_in_a_copy_of_its_context() -> None:
    answers = iter(range(9))

    def ask() -> int:
        return once("key", lambda: next(answers))

    with one_look(), ThreadPoolExecutor(1) as pool:
        assert ask() == 0
        assert pool.submit(copy_context().run, ask).result() == 0
        assert pool.submit(ask).result() == 1


def test_an_error_is_not_remembered() -> None:
    def fails() -> int:
        raise ValueError("not now")

    with one_look():
        with pytest.raises(ValueError, match="not now"):
            once("key", fails)
        assert once("key", lambda: 1) == 1

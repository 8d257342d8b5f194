"""What differs between a region's data and what it was, in words."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from regiolect.contracts import SourceFiles, SourceSet, Split
from regiolect.integrity import digest_bytes
from regiolect.planning.sources import changed_sources


def told(files: Mapping[str, bytes] | None = None, **sets: tuple[bytes, int | None]) -> SourceFiles:
    """`gate=(content, samples)`."""
    return SourceFiles(
        digest=digest_bytes(b"all of it"),
        files={name: digest_bytes(content) for name, content in (files or {}).items()},
        sets={Split(name): SourceSet(digest=digest_bytes(of), samples=count) for name, (of, count) in sets.items()},
    )


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (told(gate=(b"a", 400)), told(gate=(b"a", 400)), []),
        (told(gate=(b"a", 400)), told(gate=(b"b", 2100)), ["gate set, 400 -> 2,100 samples"]),
        (told(gate=(b"a", 4)), told(gate=(b"b", 1)), ["gate set, 4 -> 1 sample"]),
        (told(gate=(b"a", 400)), told(gate=(b"b", 400)), ["gate set, still 400 samples"]),
        (told(gate=(b"a", 400)), told(gate=(b"damaged", None)), ["gate set"]),
        (told(), told(gate=(b"a", 400)), []),
        (
            told({"read.py": b"a", "gone.py": b"a"}, gate=(b"a", 2), calibration=(b"a", 3)),
            told({"read.py": b"b", "new.py": b"a"}, gate=(b"b", 3), calibration=(b"b", 3)),
            [
                "calibration set, still 3 samples",
                "gate set, 2 -> 3 samples",
                "gone.py is gone",
                "new.py is new",
                "read.py",
            ],
        ),
    ],
)
def test_each_set_and_file_that_differs_is_told_and_no_other(
    before: SourceFiles, now: SourceFiles, words: list[str]
) -> None:
    assert changed_sources(before, now) == words
    assert changed_sources(None, now) == []


def test_a_record_from_before_there_were_sets_reads_and_one_without_sets_is_written_like_it() -> None:
    old = {"digest": digest_bytes(b"all of it"), "files": {"read.py": digest_bytes(b"a")}}
    assert SourceFiles.model_validate(old).model_dump(mode="json") == old

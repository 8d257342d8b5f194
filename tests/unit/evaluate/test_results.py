"""Per-sample results and their CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiolect.errors import InvalidResults
from regiolect.evaluate.results import PairedResults

names = st.text(min_size=1, max_size=8).filter(str.isprintable)
scores = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(-1e9, 1e9))


def test_right_and_wrong_are_written_as_1_and_0() -> None:
    rows = PairedResults(("a-1", "a,2"), np.array([True, False]), np.array([1.0, 1.0]))
    assert rows.to_csv() == b'sample_id,reference,engine\na-1,1,1\n"a,2",0,1\n'
    assert len(rows) == 2


@given(st.lists(st.tuples(names, scores, scores), min_size=1, max_size=12, unique_by=lambda row: row[0]))
def test_what_is_written_reads_back_the_same(rows: list[tuple[str, float, float]]) -> None:
    ids, reference, engine = zip(*rows, strict=True)
    written = PairedResults(ids, np.array(reference), np.array(engine)).to_csv()
    read = PairedResults.from_csv(written)
    assert read.sample_ids == ids
    assert read.reference.tolist() == list(reference)
    assert read.engine.tolist() == list(engine)
    assert read.to_csv() == written


def test_what_is_sliced_by_is_kept_in_columns_of_its_own() -> None:
    rows = PairedResults(("a", "b"), [1, 0], [1, 1], {"label": np.array(["7", "8"]), "device": np.array(["x,y", "z"])})
    assert rows.to_csv() == b'sample_id,reference,engine,device,label\na,1,1,"x,y",7\nb,0,1,z,8\n'
    read = PairedResults.from_csv(rows.to_csv())
    assert {name: column.tolist() for name, column in read.columns.items()} == {
        "device": ["x,y", "z"],
        "label": ["7", "8"],
    }
    assert read.to_csv() == rows.to_csv()


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"device": ["a"]}, r"shape \(1,\)"),
        ({"device": [1, 2]}, "int64"),
        ({"device": ["a", ""]}, "an empty value for sample 'b'"),
        ({"device": ["a", "b\r"]}, "for sample 'b'"),
        ({"engine": ["a", "b"]}, "the name 'engine'"),
    ],
)
def test_columns_have_a_text_for_every_sample(columns: dict[str, Any], found: str) -> None:
    with pytest.raises(InvalidResults, match=found):
        PairedResults(("a", "b"), [1, 0], [1, 1], columns)


def test_a_file_reads_as_its_bytes_do(tmp_path: Path) -> None:
    rows = PairedResults(("a", "b"), np.array([1, 0]), np.array([1, 1]))
    path = tmp_path / "results.csv"
    path.write_bytes(rows.to_csv())
    assert PairedResults.from_csv(path).to_csv() == rows.to_csv()


def test_scores_cannot_be_changed_afterwards() -> None:
    given_scores = np.array([1.0, 0.0])
    rows = PairedResults(("a", "b"), given_scores, given_scores)
    given_scores[0] = 0.0
    assert rows.reference.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="read-only"):
        rows.reference[0] = 0.0


@pytest.mark.parametrize(
    ("ids", "reference", "engine", "found"),
    [
        ((), [], [], "found none"),
        (("a", "b", "a"), [1, 1, 1], [1, 1, 1], "'a' 2 times"),
        (("a", ""), [1, 1], [1, 1], "an empty id at position 1"),
        (("a", "\ud800"), [1, 1], [1, 1], "not printable"),
        (("a", "b\r"), [1, 1], [1, 1], "not printable"),
        (("a", "b"), [1], [1, 1], r"reference for each of 2 samples; found shape \(1,\)"),
        (("a", "b"), [1, 1], [1, 1, 1], r"engine for each of 2 samples; found shape \(3,\)"),
        (("a", "b"), [[1, 1]], [1, 1], r"found shape \(1, 2\)"),
        (("a", "b"), [1, np.nan], [1, 1], "nan for sample 'b', 1 of 2"),
        (("a", "b"), [1, 1], [-np.inf, 1], "-inf for sample 'a'"),
        (("a", "b"), [1, "right"], [1, 1], "numbers as scores of the reference"),
    ],
)
def test_results_that_do_not_pair_are_refused(ids: tuple[str, ...], reference: Any, engine: Any, found: str) -> None:
    with pytest.raises(InvalidResults, match=found):
        PairedResults(ids, reference, engine)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "ValueError"),
        (b"sample_id,reference,engine\n", "found none"),
        (b"id,reference,engine\na,1,1\n", "columns id,reference,engine"),
        (b"sample_id,reference,engine\na,1,1\nb,1\n", "2 values in row 3"),
        (b"sample_id,reference,engine\na,1,yes\n", "could not convert"),
        (b"sample_id,reference,engine\na,1,\n", "could not convert"),
        (b"sample_id,reference,engine\na,1,nan\n", "nan for sample 'a'"),
        (b'sample_id,reference,engine\n"a,1,1\n', "Error"),
        (b"\xff\xfe", "UnicodeDecodeError"),
        (b"sample_id,reference,engine,b,a\ns,1,1,x,y\n", "columns sample_id,reference,engine,b,a"),
        (b"sample_id,reference,engine,a,a\ns,1,1,x,y\n", "columns sample_id,reference,engine,a,a"),
        (b"sample_id,reference,engine,a\ns,1,1,\n", "an empty value for sample 's'"),
    ],
)
def test_a_file_that_is_no_results_is_refused(content: bytes, found: str) -> None:
    with pytest.raises(InvalidResults, match=found):
        PairedResults.from_csv(content)


def test_a_missing_file_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidResults, match=r"gone\.csv.*FileNotFoundError"):
        PairedResults.from_csv(tmp_path / "gone.csv")

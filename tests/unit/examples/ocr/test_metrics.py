"""Metrics of texts: what a CTC network's output says, and how far that is from what should be there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.ocr.metrics import character_accuracies, ctc_texts

LETTERS = "abc"


def scores_of(path: list[int]) -> np.ndarray:
    return np.eye(len(LETTERS) + 1, dtype=np.float32)[path][None]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([1, 1, 2, 0, 0, 2, 3], "abbc"),
        ([0, 1, 0, 1, 0], "aa"),
        ([1, 1, 1], "a"),
        ([0, 0], ""),
    ],
)
def test_repetitions_are_merged_and_blanks_taken_out(path: list[int], text: str) -> None:
    assert ctc_texts(scores_of(path), LETTERS) == [text]


@given(word=st.text(LETTERS, max_size=6), repeat=st.integers(1, 3), padding=st.integers(0, 5))
def test_a_text_survives_its_way_through_a_path_however_long_and_however_padded(
    word: str, repeat: int, padding: int
) -> None:
    path = [step for letter in word for step in [LETTERS.index(letter) + 1] * repeat + [0]]
    assert ctc_texts(scores_of([*path, *[0] * (padding + 1)]), LETTERS) == [word]


def test_a_row_with_nan_says_nothing_and_the_others_keep_their_texts() -> None:
    scores = np.concatenate([scores_of([1, 2]), scores_of([3, 0])])
    scores[0, 1, 3] = np.nan
    assert ctc_texts(scores, LETTERS) == [None, "c"]


def test_character_accuracy_is_one_minus_the_error_rate_and_never_negative() -> None:
    found = character_accuracies(
        ["abc", "abd", "", None, "xxxxxxx", "", "a"], ["abc", "abc", "abc", "abc", "a", "", ""]
    )
    assert found == pytest.approx([1, 2 / 3, 0, 0, 0, 1, 0])

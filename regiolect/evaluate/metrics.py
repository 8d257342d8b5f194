"""Metric functions: (outputs by name, targets) -> one score per sample; and what metrics of texts are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def top1(outputs: Mapping[str, NDArray[Any]], targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the largest logit of the first output (n, classes) is the label (n,); a row with NaN is wrong."""
    logits = next(iter(outputs.values()))
    # argmax takes NaN for the largest value.
    return np.asarray((logits.argmax(axis=1) == targets) & ~np.isnan(logits).any(axis=1))


def ctc_texts(scores: NDArray[Any], characters: Sequence[str]) -> list[str | None]:
    """Texts from the output of a network trained with CTC, decoded greedily: the best class of each step, repetitions
    merged, blanks taken out. Steps over padding are blanks, so that more of them at the end change nothing.

    Args:
        scores: shape (n, steps, classes); class 0 is the blank, class i stands for `characters[i - 1]`.
        characters: one for each class but the blank.

    Returns:
        One text per row; None for a row with NaN, which is no text at all.

    Source: A. Graves et al., "Connectionist Temporal Classification", ICML 2006, best path decoding.
    """
    best = scores.argmax(axis=2)
    # argmax takes NaN for the largest value.
    broken = np.isnan(np.take_along_axis(scores, best[:, :, None], axis=2)).any(axis=(1, 2))
    starts = np.ones(best.shape, bool)
    starts[:, 1:] = best[:, 1:] != best[:, :-1]
    kept = starts & (best != 0)
    return [
        None if spoiled else "".join(characters[index - 1] for index in row[mask])
        for row, mask, spoiled in zip(best, kept, broken, strict=True)
    ]


def character_accuracies(texts: Sequence[str | None], targets: Sequence[str]) -> NDArray[np.float64]:
    """1 - edit distance / length of the target, at least 0, per text; 1 minus the character error rate.

    An empty target is read right by an empty text alone. None scores 0.
    """
    return np.asarray([_likeness(text, target) for text, target in zip(texts, targets, strict=True)], np.float64)


def _likeness(text: str | None, target: str) -> float:
    if text is None or text == target:
        return float(text == target)
    return max(0.0, 1 - edit_distance(text, target) / max(len(target), 1))


def edit_distance(one: str, other: str) -> int:
    """Fewest insertions, deletions and replacements of a character that make `other` of `one`.

    Source: V. I. Levenshtein, 1966; computed row by row (R. A. Wagner and M. J. Fischer, 1974).
    """
    row = list(range(len(other) + 1))
    for place, left in enumerate(one, 1):
        diagonal, row[0] = row[0], place
        for index, right in enumerate(other, 1):
            diagonal, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, diagonal + (left != right))
    return row[-1]

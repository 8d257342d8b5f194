"""What PP-OCRv4's answers say, and how right that is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.ocr.packages import model_file


def exact_match(outputs: Mapping[str, NDArray[Any]], targets: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Whether a line was read without any mistake."""
    return np.asarray([text == target for text, target in zip(read(outputs), targets, strict=True)], bool)


def character_accuracy(outputs: Mapping[str, NDArray[Any]], targets: NDArray[np.str_]) -> NDArray[np.float64]:
    """1 - edit distance / length of the text, at least 0: one minus the line's character error rate."""
    return character_accuracies(read(outputs), [str(target) for target in targets])


def read(outputs: Mapping[str, NDArray[Any]]) -> list[str | None]:
    """The text of each line from the network's output (n, steps, 6625); None for a line with NaN.

    Spaces around a text are left out: the network likes to read margins as such.
    """
    return [text and text.strip() for text in ctc_texts(next(iter(outputs.values())), characters())]


@functools.cache
def characters() -> tuple[str, ...]:
    """What classes 1 to 6624 stand for: the list in the model file's metadata, then the space."""
    import onnx

    properties = onnx.load(model_file(), load_external_data=False).metadata_props
    listed = next(entry.value for entry in properties if entry.key == "character")
    return (*listed.splitlines(), " ")


def ctc_texts(scores: NDArray[Any], alphabet: Sequence[str]) -> list[str | None]:
    """Texts from the output of a network trained with CTC, decoded greedily: the best class of each step, repetitions
    merged, blanks taken out. Steps over padding are blanks, so that more of them at the end change nothing.

    Args:
        scores: shape (n, steps, classes); class 0 is the blank, class i stands for `alphabet[i - 1]`.
        alphabet: one character for each class but the blank.

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
        None if spoiled else "".join(alphabet[index - 1] for index in row[mask])
        for row, mask, spoiled in zip(best, kept, broken, strict=True)
    ]


def character_accuracies(texts: Sequence[str | None], targets: Sequence[str]) -> NDArray[np.float64]:
    """1 - edit distance / length of the target, at least 0, per text; 1 minus the character error rate.

    An empty target is read right by an empty text alone. None scores 0.
    """
    from rapidfuzz.distance import Levenshtein

    def likeness(text: str | None, target: str) -> float:
        if text is None or text == target:
            return float(text == target)
        return max(0.0, 1 - Levenshtein.distance(text, target) / max(len(target), 1))

    return np.asarray([likeness(text, target) for text, target in zip(texts, targets, strict=True)], np.float64)

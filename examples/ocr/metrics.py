"""What PP-OCRv4's answers say, and how right that is."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.ocr.packages import model_file
from regiolect.evaluate.metrics import character_accuracies, ctc_texts


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

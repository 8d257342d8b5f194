"""The second example model: PP-OCRv4's text recognition, on the SIMULATED text lines of nine regions."""

from __future__ import annotations

from examples.ocr.data import sources
from examples.ocr.metrics import character_accuracy, exact_match
from examples.ocr.packages import model_file
from regiolect.contracts import Preprocessing, TensorSpec
from regiolect.model import ModelSpec

MODEL = ModelSpec(
    name="ocr",
    loader=model_file(),
    inputs=(TensorSpec(name="x", shape=("batch", 3, 48, "width")),),
    outputs=("softmax_11.tmp_0",),
    # As the network was trained: every channel to -1 to 1.
    preprocessing=Preprocessing(raw_dtype="uint8", scale=1 / 255, mean=(0.5,), std=(0.5,)),
    # The built-in policies limit the loss of `accuracy`.
    metrics={"accuracy": exact_match, "exact_match": exact_match, "character_accuracy": character_accuracy},
    data=sources(),
    note="The text lines are SIMULATED (examples/ocr/README.md): no figure speaks of a real place or document.",
)

__all__ = ["MODEL"]

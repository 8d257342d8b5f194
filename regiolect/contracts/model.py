"""A model, its inputs, and its exported form."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from regiolect.contracts.base import Blob, Contract, Digest
from regiolect.contracts.data import SourceSet, Split


class TensorSpec(Contract):
    """A named model input, after preprocessing.

    Args:
        name: the input's name in the graph.
        dtype: of the model's input, not of raw samples.
        shape: sizes; a text is a dimension that varies, by its name. The first is always the batch:
            `("batch", 3, 224, 224)`.
    """

    name: str
    dtype: Literal["float32"] = "float32"
    shape: Annotated[tuple[int | str, ...], Field(min_length=1)]


class Preprocessing(Contract):
    """What turns a raw input into a model input: (raw * scale - mean) / std, per channel (axis 1), as float32.

    It is data, not code, so that a bundle can carry it and its digest can seal a calibration. Releases and consumers
    apply it by `regiolect.data.preprocess`.

        >>> import numpy as np
        >>> from regiolect.data import preprocess
        >>> how = Preprocessing(raw_dtype="uint8", scale=1 / 255, mean=(0.5,), std=(0.25,))
        >>> preprocess(np.array([[[0, 255]]], np.uint8), how)
        array([[[-2.,  2.]]], dtype=float32)

    Args:
        raw_dtype: type of raw samples, as they are recorded and as consumers send them; any other is refused.
        scale: what a raw value is multiplied by: 1 / 255 makes [0, 1] of uint8.
        mean: what is subtracted after that, in scaled units: one number for all channels of all inputs, or one per
            channel, for inputs that all have as many on axis 1.
        std: what is divided by last, in scaled units and greater than 0: one number, or one per channel.

    Raises:
        pydantic.ValidationError: a value is of another type, not finite, or a deviation is not positive.
    """

    raw_dtype: Literal["uint8", "int16", "int32", "int64", "float32"] = "float32"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[PositiveFloat, ...] = (1.0,)


class SourceFiles(Contract):
    """What defines a model, a metric or a region's data, by the digest of all of it; the files among that by name."""

    digest: Digest
    files: Mapping[str, Digest]
    sets: Mapping[Split, SourceSet] = Field(
        default={},
        exclude_if=operator.not_,
        description="of data: each set, where its source tells them one by one; older records lack them",
    )


class ParityReport(Contract):
    """The exported graph against its source on real samples; errors are largest absolute output differences.

    One may be above the tolerance where an output counts more than 1, by its rounding.
    """

    samples: PositiveInt
    tolerance: NonNegativeFloat
    worst_sample: str
    worst_error: NonNegativeFloat


class ExportedModel(Contract):
    """A model as a cleaned ONNX graph with a dynamic batch, FP32 unless it arrived quantized.

    Engines are built from `graph` and compared with `reference`, which is always FP32.
    """

    name: str
    source: Digest = Field(description="digest of the files and settings that define the model")
    graph: Blob
    reference: Blob = Field(description="the FP32 graph; `graph` itself, unless the model arrived quantized")
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    preprocessing: Preprocessing
    preprocessing_digest: Digest
    opset: PositiveInt
    nodes_before: PositiveInt
    nodes_after: PositiveInt
    bytes_before: PositiveInt
    bytes_after: PositiveInt
    parity: ParityReport | None = Field(description="None only for a model that arrived as ONNX: nothing to compare")

    def summary(self) -> str:
        """What export and clean-up did, in a line."""
        size = f"{self.bytes_before / 1e6:.2f} to {self.bytes_after / 1e6:.2f} MB"
        done = f"opset {self.opset}, {self.nodes_before} to {self.nodes_after} nodes, {size}"
        if self.parity is None:
            return f"{done}; compared with its file on noise only"
        return (
            f"{done}; differs from its source by at most {self.parity.worst_error:.1e} "
            f"(sample {self.parity.worst_sample}, {self.parity.samples} compared, tolerance {self.parity.tolerance:g})"
        )

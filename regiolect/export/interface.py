"""What an .onnx file takes and answers, as a ModelSpec says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto, ValueInfoProto

from regiolect.contracts import TensorSpec
from regiolect.errors import InvalidModelSpec
from regiolect.export.external import weights_files
from regiolect.export.onnx_file import drop_initializers_from_inputs, parse


@dataclass(frozen=True)
class Interface:
    """What the file says of itself.

    Attributes:
        inputs: names, dtypes and shapes. The first dimension is called `batch`; others that are free have the names
            that they have in the file, or where they have none the input's and their number: `image_3`.
        outputs: names, in the file's order.
        weights: files beside it that hold weights.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    weights: tuple[Path, ...]

    @property
    def free(self) -> tuple[str, ...]:
        """Dimensions besides the batch that the file leaves open, each once."""
        sizes = (size for tensor in self.inputs for size in tensor.shape[1:] if isinstance(size, str))
        return tuple(dict.fromkeys(sizes))


def interface_of(path: Path) -> Interface:
    """Read it from the file; no weights are loaded.

    Raises:
        InvalidOnnx: it cannot be read, or is damaged.
        InvalidModelSpec: it has an input that Regiolect does not take.
    """
    model = parse(path)
    drop_initializers_from_inputs(model)
    return Interface(
        inputs=tuple(_input(path, value) for value in model.graph.input),
        outputs=tuple(value.name for value in model.graph.output),
        weights=weights_files(path, model),
    )


def _input(path: Path, value: ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT or not kind.shape.dim:
        dtype = TensorProto.DataType.Name(kind.elem_type).lower()
        raise InvalidModelSpec(
            expected=f"inputs of float32 with a batch as first dimension in {path}",
            found=f"input {value.name!r} of {dtype}" + ("" if kind.shape.dim else " without a shape"),
            remedy="export the model from where its inputs are floats: a Cast or Embedding before it stays outside",
        )
    inner = (
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_{axis}"
        for axis, dim in enumerate(kind.shape.dim)
    )
    return TensorSpec(name=value.name, dtype="float32", shape=("batch", *tuple(inner)[1:]))

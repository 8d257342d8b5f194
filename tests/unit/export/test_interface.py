"""What an .onnx file says of itself, as a ModelSpec says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from regiolect.errors import InvalidModelSpec, InvalidOnnx
from regiolect.export.interface import interface_of
from tests.tiny_graph import averaged


@pytest.fixture
def model() -> onnx.ModelProto:
    """Takes an `image` (batch, 1, 4, width)."""
    return onnx.load_from_string(averaged(np.ones((1, 3), np.float32)))


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_names_shapes_and_free_dimensions_are_those_of_the_file(tmp_path: Path, model: onnx.ModelProto) -> None:
    given = interface_of(saved(tmp_path, model))
    assert [(tensor.name, tensor.shape) for tensor in given.inputs] == [("image", ("batch", 1, 4, "width"))]
    assert (given.outputs, given.free, given.weights) == (("logits",), ("width",), ())


def test_a_fixed_batch_is_a_batch_and_a_free_dimension_without_a_name_gets_one(
    tmp_path: Path, model: onnx.ModelProto
) -> None:
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    dimensions[0].dim_value = 1
    dimensions[3].Clear()
    assert interface_of(saved(tmp_path, model)).inputs[0].shape == ("batch", 1, 4, "image_3")


def test_weights_beside_the_file_are_named_and_weights_among_the_inputs_are_no_inputs(
    tmp_path: Path, model: onnx.ModelProto
) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 3]))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    given = interface_of(tmp_path / "model.onnx")
    assert [tensor.name for tensor in given.inputs] == ["image"]
    assert given.weights == (tmp_path / "w.bin",)


@pytest.mark.parametrize(("kind", "found"), [(TensorProto.INT64, "of int64"), (None, "without a shape")])
def test_an_input_that_no_release_takes_is_refused_by_name(
    tmp_path: Path, model: onnx.ModelProto, kind: int | None, found: str
) -> None:
    tensor = model.graph.input[0].type.tensor_type
    if kind is None:
        tensor.ClearField("shape")
    else:
        tensor.elem_type = kind
    with pytest.raises(InvalidModelSpec, match=f"input 'image' .*{found}"):
        interface_of(saved(tmp_path, model))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(InvalidOnnx):
        interface_of(tmp_path / "model.onnx")

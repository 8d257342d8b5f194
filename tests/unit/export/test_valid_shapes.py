"""Files whose shapes ONNX's inference does not tell, in whole or in part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from regiolect.errors import InvalidModelSpec
from regiolect.export import export_model
from regiolect.export.cleanup import quiet
from regiolect.graphs.protos import check, checked_types, inferred_ranks
from regiolect.storage import LocalStore
from tests.unit.export.onnx_files import WEIGHT, operators, outputs

Exported = Callable[..., ModelProto]
IMAGES = np.random.default_rng(2).normal(size=(5, 2, 6, 6)).astype(np.float32)


@pytest.fixture
def exported(spec_of: Callable[..., Any], store: LocalStore) -> Exported:
    def _exported(model: ModelProto | bytes) -> ModelProto:
        return onnx.load(store.path_of(export_model(spec_of(model), store, None).graph))

    return _exported


def model_of(nodes: list[NodeProto], shape: list[Any], opset: int, **held: np.ndarray[Any, Any]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def stays_equal(found: ModelProto, model: ModelProto) -> None:
    given = outputs(model.SerializeToString(), IMAGES)
    np.testing.assert_allclose(outputs(found.SerializeToString(), IMAGES), given, atol=1e-4)


@pytest.mark.parametrize("opset", [21, 23])
def test_group_norms_that_torch_exports_are_taken(exported: Exported, opset: int) -> None:
    """They were called a damaged file: ONNX tells no shape behind such a node, and the output's was cleared."""
    layers = [torch.nn.Conv2d(2, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3)]
    net = torch.nn.Sequential(*layers, torch.nn.GroupNorm(2, 4)).eval()
    images, names = torch.from_numpy(IMAGES), {"input_names": ["x"], "output_names": ["y"]}
    with quiet():
        program = torch.onnx.export(
            net, (images,), opset_version=opset, dynamo=True, dynamic_shapes=({0: "batch"},), verbose=False, **names
        )
    assert program is not None
    found = exported(program.model_proto)
    assert operators(found).count("GroupNormalization") == 2
    assert [dim.dim_value for dim in found.graph.output[0].type.tensor_type.shape.dim] == [0, 4, 2, 2]
    with torch.no_grad():
        np.testing.assert_allclose(outputs(found.SerializeToString(), IMAGES), net(images).numpy(), atol=1e-4)


def test_shapes_behind_a_group_norm_are_told_in_every_step() -> None:
    norm = helper.make_node("GroupNormalization", ["x", "g", "b"], ["normal"], num_groups=2)
    nodes = [norm, helper.make_node("Relu", ["normal"], ["r"]), helper.make_node("Neg", ["r"], ["y"])]
    held = {"g": np.ones(2, np.float32), "b": np.zeros(2, np.float32)}
    model = model_of(nodes, ["n", 2, 6, 6], 21, **held)
    before = model.SerializeToString(deterministic=True)
    assert inferred_ranks(model).items() >= {"normal": 4, "r": 4, "y": 4}.items()
    assert checked_types(model)["r"] == TensorProto.FLOAT
    assert operators(check(model)) == ["GroupNormalization", "Relu", "Neg"]
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(("opset", "axes"), [(9, [0, 2, 3]), (13, [2, 3]), (20, [2, 3]), (21, [1, 2, 3])])
def test_mean_variance_normalization_is_taken(exported: Exported, opset: int, axes: list[int]) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("MeanVarianceNormalization", ["c"], ["m"], axes=axes),
        helper.make_node("Relu", ["m"], ["y"]),
    ]
    model = model_of(nodes, ["n", 4, 6, 6], opset, w=WEIGHT)
    stays_equal(exported(model), model)


def test_an_output_of_a_shape_that_is_computed_keeps_its_number_of_dimensions(exported: Exported) -> None:
    """What nodes compute from values is told by none: such a file was called damaged."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        # How many values are left, inference cannot tell.
        helper.make_node("Compress", ["s", "kept"], ["again"]),
        helper.make_node("Reshape", ["x", "again"], ["y"]),
    ]
    model = model_of(nodes, ["n", 2, 6, 6], 20, kept=np.ones(4, np.bool_))
    found = exported(model)
    assert len(found.graph.output[0].type.tensor_type.shape.dim) == 4
    stays_equal(found, model)


def test_an_output_that_declares_a_wrong_number_of_dimensions_is_told_by_inference(exported: Exported) -> None:
    model = model_of([helper.make_node("Flatten", ["x"], ["y"])], ["n", 2, 6, 6], 20)
    assert len(exported(model).graph.output[0].type.tensor_type.shape.dim) == 2


@pytest.mark.parametrize("batch", ["n", 1])
def test_an_output_that_begins_with_time_is_told_so(exported: Exported, batch: Any) -> None:
    """With a batch of 1 in the file, that batch was blamed."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "last"], ["flat"], keepdims=0),
        helper.make_node("Transpose", ["flat"], ["y"], perm=[1, 0, 2]),
    ]
    model = model_of(nodes, [2, "n", 6], 20, last=np.asarray([3]))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2, 6, 6]))
    with pytest.raises(InvalidModelSpec, match=r"as first dimension; found it as dimension 1 of \(2, batch, 6\)"):
        exported(model)


@pytest.mark.parametrize("made", [False, True])
def test_an_output_that_depends_on_no_input_is_told_so(exported: Exported, made: bool) -> None:
    """An initializer was called a damaged file."""
    nodes = [helper.make_node("Neg", ["anchors"], ["y"])] if made else []
    held = {"anchors" if made else "y": np.ones(3, np.float32)}
    model = model_of([helper.make_node("Relu", ["x"], ["z"]), *nodes], [3], 20, **held)
    with pytest.raises(InvalidModelSpec, match="a constant, the same for every sample"):
        exported(model)

"""Branches that are settled before anything runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorShapeProto, helper, numpy_helper

from regiolect.export.cleanup import fold, quiet
from regiolect.graphs.protos import attributes, constants, infer_shapes, is_standard, producers


def without_settled_branches(model: ModelProto) -> ModelProto:
    """The model with a branch in place of each If whose condition follows from constants and fixed extents.

    torch writes such for a squeeze, and for what code asks of a shape. Itself if it has no If.
    """
    if all(node.op_type != "If" for node in model.graph.node):
        return model
    import onnx_ir as ir
    from onnx_ir.passes import common

    with quiet():
        inferred = infer_shapes(model)
        _write_fixed_extents(inferred)
        graph = ir.from_proto(inferred)
        fold(graph)
        common.RemoveUnusedNodesPass()(graph)
        common.NameFixPass()(graph)
    folded: ModelProto = ir.to_proto(graph)
    return folded


def _write_fixed_extents(model: ModelProto) -> None:
    """Extents that are taken from a shape become constants where they are fixed, though others of that shape are not.

    The optimizer folds a few forms of this.
    """
    graph = model.graph
    made_by, held = producers(graph), constants(graph)
    values = (*graph.input, *graph.value_info)
    shapes = {each.name: each.type.tensor_type.shape for each in values if each.type.tensor_type.HasField("shape")}
    for node in graph.node:
        if node.op_type != "Gather" or not is_standard(node) or node.input[1] not in held:
            continue
        source = made_by.get(node.input[0])
        if source is not None and _is_whole_shape(source) and source.input[0] in shapes:
            extents = _extents(shapes[source.input[0]], numpy_helper.to_array(held[node.input[1]]))
            if extents is not None and not attributes(node).get("axis", 0):
                value = numpy_helper.from_array(extents)
                node.CopyFrom(helper.make_node("Constant", [], list(node.output), node.name, value=value))


def _is_whole_shape(node: NodeProto) -> bool:
    return node.op_type == "Shape" and is_standard(node) and not node.attribute


def _extents(shape: TensorShapeProto, places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    count = len(shape.dim)
    if not all(-count <= place < count and shape.dim[place].HasField("dim_value") for place in places.flat):
        return None
    return np.asarray([shape.dim[place].dim_value for place in places.flat], np.int64).reshape(places.shape)

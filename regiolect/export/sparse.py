"""Sparse tensors of an ONNX file as dense ones."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from regiolect.errors import InvalidOnnx
from regiolect.graphs.protos import is_standard

# What ONNX keeps in one file.
_LIMIT = 2**31 - 1


def make_dense(model: ModelProto) -> None:
    """Write sparse initializers and Constant nodes as dense ones, in place; what cleans a graph up reads no others.

    Args:
        model: one that ONNX's checker accepts, without subgraphs.

    Raises:
        InvalidOnnx: a tensor that takes more than 2 GiB.
    """
    model.graph.initializer.extend(_dense(each) for each in model.graph.sparse_initializer)
    model.graph.ClearField("sparse_initializer")
    for node in model.graph.node:
        if node.op_type == "Constant" and is_standard(node) and node.attribute[0].name == "sparse_value":
            tensor = _dense(node.attribute[0].sparse_tensor)
            node.attribute[0].CopyFrom(helper.make_attribute("value", tensor))


def _dense(sparse: SparseTensorProto) -> TensorProto:
    values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    size = math.prod(sparse.dims) * values.itemsize
    if size > _LIMIT:
        raise InvalidOnnx(
            expected=f"sparse tensor {sparse.values.name!r} of at most 2 GiB when it is dense",
            found=f"{size / 2**30:.1f} GiB",
            remedy="split or prune the model; ONNX keeps at most 2 GiB in one file",
        )
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    # Places are counted through the whole tensor, or have one number for each dimension.
    if places.ndim == 1:
        dense.reshape(-1)[places] = values
    else:
        dense[tuple(places.T)] = values
    return numpy_helper.from_array(dense, sparse.values.name)

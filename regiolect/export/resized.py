"""Upsample, and Resize as it was before opset 11, in the terms of later opsets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from regiolect.graphs.protos import attributes, constants, is_standard, opset

# From here on Resize says how places of its output are those of its input, and takes another way by default.
_SAYS_HOW = 11


def say_how(source: ModelProto, raised: ModelProto) -> None:
    """Write into the resizes of a raised graph, in place, how their places were computed before.

    ONNX's converter leaves that out, and the default has changed: every value between two others was another one.
    """
    if opset(source) >= _SAYS_HOW:
        return
    held = constants(source.graph)
    # The converter names what an Upsample makes anew, and leaves the order as it was.
    before = [node for node in source.graph.node if node.op_type in ("Upsample", "Resize") and is_standard(node)]
    after = [node for node in raised.graph.node if node.op_type == "Resize" and is_standard(node)]
    for old, node in zip(before, after, strict=True):
        node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
        if attributes(old).get("mode", b"nearest") == b"nearest":
            way = "ceil" if _only_shrinks(_scales(old, held)) else "floor"
            node.attribute.append(helper.make_attribute("nearest_mode", way))


def _scales(node: NodeProto, held: Mapping[str, TensorProto]) -> NDArray[np.float64] | None:
    if len(node.input) > 1:
        return numpy_helper.to_array(held[node.input[1]]).astype(np.float64) if node.input[1] in held else None
    return np.asarray(attributes(node).get("scales", ()), np.float64)


def _only_shrinks(scales: NDArray[np.float64] | None) -> bool:
    # What both shrinks and grows has no mode of its own; comparing the graphs refuses it.
    return scales is not None and bool((scales <= 1).all() and (scales < 1).any())

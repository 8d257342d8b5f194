"""The forms of a graph that ONNX Runtime opens, and in which it sums 8 x 8 bits exactly where they would saturate."""

from __future__ import annotations

from collections.abc import Callable

import onnx
from onnx import ModelProto

from regiolect.errors import InvalidOnnx
from regiolect.graphs.as_qdq import as_qdq
from regiolect.graphs.protos import inlined, opset
from regiolect.graphs.several import one_by_one
from regiolect.graphs.unshared import unshared
from regiolect.graphs.unsigned import NAMED_TYPES, unsigned

_MALFORMED = (LookupError, TypeError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError)


def summed_exactly(model: ModelProto) -> ModelProto:
    """The same model, for a session with `session.x64quantprecision=1`; itself if it has that form.

    Its local functions are inlined, operators that hold their quantization become Q/DQ nodes (`as_qdq`), scales that no
    kernel takes become arithmetic (`several`), int8 tensors become uint8 where ONNX Runtime would leave them or fail
    (`unsigned`), and int8 weights have one reader each (`unshared`). Every value stays what it was. Control flow is not
    looked into.

    Raises:
        UnsupportedOperator: as of `as_qdq`.
        InvalidOnnx: a node lacks inputs, outputs or attributes, or a tensor bytes.
    """
    return _named(model, lambda: unshared(unsigned(one_by_one(as_qdq(inlined(model))))))


def openable(model: ModelProto) -> ModelProto:
    """The same model, for a session in a class where nothing saturates; itself if it has that form.

    Scales that no kernel takes become arithmetic (`several`). From opset 21 on int8 tensors that QuantizeLinear nodes
    make become uint8 (`unsigned`): moved, they end a session.

    Raises:
        InvalidOnnx: a node lacks inputs, outputs or attributes, or a tensor bytes.
    """
    return _named(model, lambda: _openable(model))


def _openable(model: ModelProto) -> ModelProto:
    plain = inlined(model)
    written = one_by_one(plain)
    if opset(model) >= NAMED_TYPES:
        written = unsigned(written, every=True)
    return model if written is plain else written


def _named(model: ModelProto, rewritten: Callable[[], ModelProto]) -> ModelProto:
    try:
        return rewritten()
    except _MALFORMED as error:
        raise InvalidOnnx(
            expected=f"graph {model.graph.name!r} to be valid ONNX",
            found=f"{' '.join(str(error).split())[:500]} ({type(error).__name__})",
            remedy="export the model again; onnx.checker.check_model names the node",
        ) from error

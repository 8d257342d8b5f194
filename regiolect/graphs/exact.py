"""The form of a graph in which ONNX Runtime sums products of 8 x 8 bits exactly where they would saturate."""

from __future__ import annotations

import onnx
from onnx import ModelProto

from regiolect.errors import InvalidOnnx
from regiolect.graphs.as_qdq import as_qdq
from regiolect.graphs.protos import inlined
from regiolect.graphs.unshared import unshared
from regiolect.graphs.unsigned import unsigned

_MALFORMED = (LookupError, TypeError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError)


def summed_exactly(model: ModelProto) -> ModelProto:
    """The same model, for a session with `session.x64quantprecision=1`; itself if it has that form.

    Its local functions are inlined, operators that hold their quantization become Q/DQ nodes (`as_qdq`), computed int8
    tensors become uint8 where ONNX Runtime would leave them (`unsigned`), and int8 weights have one reader each
    (`unshared`). Every value stays what it was. Control flow is not looked into.

    Raises:
        UnsupportedOperator: as of `as_qdq`.
        InvalidOnnx: a node lacks inputs, outputs or attributes, or a tensor bytes.
    """
    try:
        return unshared(unsigned(as_qdq(inlined(model))))
    except _MALFORMED as error:
        raise InvalidOnnx(
            expected=f"graph {model.graph.name!r} to be valid ONNX",
            found=f"{' '.join(str(error).split())[:500]} ({type(error).__name__})",
            remedy="export the model again; onnx.checker.check_model names the node",
        ) from error

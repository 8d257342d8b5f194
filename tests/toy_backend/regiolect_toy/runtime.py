"""Load and run an engine, and tell in which types it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from regiolect.contracts import EngineArtifact, Execution, LayerReport
from regiolect.engines.engine import Arrays, Engine
from regiolect.engines.inputs import padded_size
from regiolect.errors import AttestationFailed

ERRORS: tuple[type[Exception], ...] = (
    DecodeError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What onnx raises of its own accord."""
# What a kernel computed in, by the type of the array that it made. Integers and truth values are indices and masks.
_EXECUTIONS = {"float32": Execution.FP32, "float16": Execution.FP16}
# Operators that move values and compute nothing. Whatever is not listed counts as compute.
_NO_COMPUTE = frozenset({"Constant", "Flatten", "Identity", "Pad", "Reshape", "Transpose"})


def load(files: Mapping[str, bytes], artifact: EngineArtifact) -> ToyEngine:
    """Read the graph in `files`.

    Raises:
        One of `ERRORS`: it cannot be read.
    """
    return ToyEngine(artifact, onnx.load_model_from_string(files["engine.onnx"]))


class ToyEngine(Engine):
    """A graph that is interpreted. Batches are computed one after the other."""

    # Kernels do not tell how they compute inside, only in which types their results come.
    strength = "graph"

    def __init__(self, artifact: EngineArtifact, model: onnx.ModelProto) -> None:
        super().__init__(artifact)
        self._model = model
        self._evaluator = ReferenceEvaluator(model)

    def layers(self) -> tuple[LayerReport, ...]:
        nodes = list(self._model.graph.node)
        made = self._made_of_zeros([node.output[0] for node in nodes])
        return tuple(
            LayerReport(
                name=node.name or node.output[0],
                kind=node.op_type,
                precision=_execution(node, array),
                told=f"made {array.dtype}",
                nodes=(node.name or node.output[0],),
            )
            for node, array in zip(nodes, made, strict=True)
        )

    def _made_of_zeros(self, names: Sequence[str]) -> list[NDArray[Any]]:
        """Every tensor of a run on zeros."""
        request = self.artifact.request
        sizes = {name: padded_size(profile.opt, profile) for name, profile in request.shapes.items()}
        rows = padded_size(1, request.profile)
        zeros = {
            tensor.name: np.zeros(
                [rows, *(sizes[size] if isinstance(size, str) else size for size in tensor.shape[1:])], tensor.dtype
            )
            for tensor in request.inputs
        }
        telling = onnx.ModelProto()
        telling.CopyFrom(self._model)
        del telling.graph.output[:]
        telling.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        return [np.asarray(array) for array in ReferenceEvaluator(telling).run(None, zeros)]

    def settings(self) -> Mapping[str, str]:
        # Nothing that could be set bears on precision.
        return {}

    def executed_source(self) -> str:
        return f"onnx {onnx.__version__} reference evaluator: the types of what each operator made of zeros"

    def metadata(self) -> Mapping[str, str]:
        return {entry.key: entry.value for entry in self._model.metadata_props}

    def _run(self, pieces: Sequence[Arrays]) -> Sequence[Arrays]:
        names = list(self.artifact.request.outputs)
        return [dict(zip(names, self._evaluator.run(names, dict(piece)), strict=True)) for piece in pieces]

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        return ERRORS


def _execution(node: onnx.NodeProto, made: NDArray[Any]) -> Execution | None:
    if node.op_type in _NO_COMPUTE or made.dtype.kind in "biuUO":
        return None
    if made.dtype.name not in _EXECUTIONS:
        raise AttestationFailed(
            expected=f"{node.op_type} {node.name!r} to make one of {', '.join(_EXECUTIONS)}",
            found=str(made.dtype),
            remedy="build the engine again from a graph of FP32",
        )
    return _EXECUTIONS[made.dtype.name]

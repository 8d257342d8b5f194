"""The FP32 graph as calibration runs it: with every tensor that is to be seen among its outputs."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import ExportedModel
from regiolect.errors import InvalidOnnx, InvalidSamples, MissingThreshold, RegiolectError
from regiolect.precision import QUANTIZED_OPERATORS
from regiolect.storage import Store

if TYPE_CHECKING:
    from onnx import GraphProto

Arrays = Mapping[str, NDArray[Any]]


def tensors_to_observe(graph: GraphProto) -> tuple[str, ...]:
    """What a calibration has to know of a normalized graph, each once: graph inputs first, then in graph order.

    That is the float32 graph inputs; the first two inputs of every Conv, Gemm and MatMul; and both inputs of every
    Add of two activations (a residual). Initializers and Constants are no activations. Subgraphs are not entered.
    """
    from regiolect.graphs.protos import constants, is_standard

    held = constants(graph)
    names = _float_inputs(graph)
    for node in graph.node:
        operands = list(node.input[:2])
        residual = node.op_type == "Add" and not held.keys() & set(operands)
        if is_standard(node) and (node.op_type in QUANTIZED_OPERATORS or residual):
            names += operands
    return tuple(name for name in dict.fromkeys(names) if name not in held)


def tensors_with_range(graph: GraphProto) -> tuple[str, ...]:
    """The float32 inputs of a normalized graph and all that its nodes make, of whatever type, in graph order.

    Initializers and Constants are left out: their values are in the graph. Subgraphs are not entered.
    """
    from regiolect.graphs.protos import constants

    held = constants(graph)
    made = [name for node in graph.node for name in node.output if name and name not in held]
    return tuple(dict.fromkeys((*_float_inputs(graph), *made)))


def _float_inputs(graph: GraphProto) -> list[str]:
    from onnx import TensorProto

    return [value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT]


@dataclass(frozen=True)
class WatchedGraph:
    """A session whose outputs are the tensors to see; it may be run by several threads at once.

    Attributes:
        counted: tensors that get a histogram, in graph order.
        ranged: tensors of which only the range is kept, in graph order.
        made: those of both that nodes make; the others are graph inputs.
    """

    session: Any
    counted: tuple[str, ...]
    ranged: tuple[str, ...]
    made: tuple[str, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """All that is seen."""
        return (*self.counted, *self.ranged)

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Values of every tensor to see on `feeds`.

        Raises:
            InvalidSamples: the graph does not run on them.
        """
        shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
        refused = ("a graph that runs on the calibration samples", f"inputs {shapes}: ", "check the samples' shapes")
        with _vendor_errors(InvalidSamples, *refused):
            # An empty list of names would ask for all outputs.
            values = self.session.run(list(self.made), dict(feeds)) if self.made else []
        made = dict(zip(self.made, values, strict=True))
        return {name: made[name] if name in made else feeds[name] for name in self.tensors}


def watched(
    model: ExportedModel,
    store: Store,
    wanted: Collection[str] | None = None,
    *,
    histograms: bool = True,
    ranges: bool = False,
    threads: int | None = None,
) -> WatchedGraph:
    """Load a model's graph with the tensors to see among its outputs.

    Args:
        model: an exported FP32 model.
        store: where its graph lies.
        wanted: names of the float32 tensors to count; by default `tensors_to_observe`.
        histograms: whether to count any.
        ranges: whether to see the range of every other float32 tensor.
        threads: that one run takes; by default one for each core.

    Raises:
        MissingThreshold: `wanted` names what the graph does not make, or there is nothing to see.
        InvalidOnnx: the graph cannot be read or loaded.
    """
    from onnx import ModelProto, ValueInfoProto

    from regiolect.engines.reference import LIBRARY, open_graph, session_options
    from regiolect.graphs.protos import load, normalized

    path = store.path_of(model.graph)
    kept = load(path)
    proto = normalized(kept)
    graph = proto.graph
    inputs = {value.name for value in graph.input}
    made = {name for node in graph.node for name in node.output if name}
    counted = (tensors_to_observe(graph) if wanted is None else tuple(dict.fromkeys(wanted))) if histograms else ()
    _require_known(counted, inputs | made, model)
    names = tuple(dict.fromkeys((*counted, *(tensors_with_range(graph) if ranges else ()))))
    outputs = {value.name for value in graph.output}
    more = ModelProto()
    more.graph.output.extend(ValueInfoProto(name=name) for name in names if name in made - outputs)
    # Two encoded messages in a row are one, merged: outputs are added without writing the weights anew.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        serialized = b"".join((proto.SerializeToString() if kept.functions else data, more.SerializeToString()))
    # The weights are large, and the session makes a copy of its own.
    del kept, proto, graph
    options = session_options(threads)
    # Threads that wait by spinning would take the core on which another batch is being counted.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    refused = (f"a graph of {model.name!r} that {LIBRARY} loads", "", "export it again")
    with _vendor_errors(InvalidOnnx, *refused):
        session = open_graph(serialized, options)
    floats = {value.name for value in (*session.get_inputs(), *session.get_outputs()) if value.type == "tensor(float)"}
    if wanted is not None:
        _require_known(counted, floats, model)
    counted = tuple(name for name in counted if name in floats)
    ranged = tuple(name for name in names if name in floats and name not in set(counted))
    if not counted and not ranged:
        raise MissingThreshold(
            expected=f"float32 tensors in the graph of {model.name!r} to calibrate",
            found="none",
            remedy="give the region FP32: there is nothing that another precision would change",
        )
    return WatchedGraph(session, counted, ranged, tuple(name for name in (*counted, *ranged) if name in made))


def culprits(
    name: str, graph: WatchedGraph, ids: Sequence[str], alone: Iterator[Arrays], *, infinite: bool
) -> list[str]:
    """Ids of the samples that by themselves make a tensor NaN, or where `infinite` counts infinite; else all of them.

    Each is run alone, because the batch need not be an axis of an inner tensor.

    Args:
        ids: of the samples of a batch.
        alone: the graph's inputs for each of them.
    """
    causes = []
    for each, feeds in zip(ids, alone, strict=True):
        values = graph.run(feeds)[name]
        if (~np.isfinite(values) if infinite else np.isnan(values)).any():
            causes.append(each)
    return causes or list(ids)


def _require_known(names: Sequence[str], tensors: Collection[str], model: ExportedModel) -> None:
    unknown = [name for name in names if name not in tensors]
    if unknown:
        raise MissingThreshold(
            expected=f"float32 tensors that the graph of {model.name!r} makes",
            found=f"{', '.join(map(repr, unknown[:5]))}, which it does not",
            remedy="name tensors of the exported graph, or leave `tensors` out",
        )


@contextmanager
def _vendor_errors(kind: type[RegiolectError], expected: str, found: str, remedy: str) -> Iterator[None]:
    from regiolect.engines.reference import FAILURES

    try:
        yield
    except FAILURES as error:
        reason = " ".join(str(error).split())[:500]
        raise kind(expected=expected, found=f"{found}{reason}", remedy=remedy) from error

"""Run the FP32 graph on a region's samples and stream what flows through it into histograms.

Nothing but the histograms outlives a batch, so memory depends on the model and the batch, not on how many samples
there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regiolect.calibrate.histogram import Histogram
from regiolect.calibrate.seal import Observed, require_local, seal, table_of
from regiolect.contracts import CalibrationMethod, CalibrationTable, ExportedModel, ValidatedCalibration
from regiolect.data import Samples, model_inputs, read_samples
from regiolect.errors import InvalidOnnx, InvalidSamples, MissingThreshold, NonFiniteActivation, RegiolectError
from regiolect.precision import QUANTIZED_OPERATORS
from regiolect.storage import Store

if TYPE_CHECKING:
    from onnx import GraphProto

Progress = Callable[[int, int], None]
"""(samples done, samples in all)."""

_Arrays = Mapping[str, NDArray[Any]]
# What one batch's observed tensors may take. Two batches are held at a time: one is counted while the next one runs.
_BATCH_BYTES = 128 << 20
_LARGEST_BATCH = 64


def calibrate(
    model: ExportedModel,
    data: ValidatedCalibration,
    method: CalibrationMethod,
    store: Store,
    tensors: Collection[str] | None = None,
    progress: Progress | None = None,
    batch: int | None = None,
) -> CalibrationTable:
    """Calibrate a model on a region's own calibration set, and seal the table to both.

    Args:
        model: an exported FP32 model.
        data: the region's data, after every check passed.
        method: how thresholds are chosen from the histograms.
        store: where the graph and the samples are kept.
        tensors: names of the float32 tensors to observe; by default `tensors_to_observe`.
        progress: called after each batch.
        batch: samples at a time, with no influence on the answer beyond the graph's own rounding; by default as many
            as keep the observed tensors of a batch within 128 MiB, at most 64.

    Raises:
        ForeignCalibration: a sample, or the set, belongs to another region.
        InvalidSamples: the samples do not fit the model's inputs.
        NonFiniteActivation: a tensor is NaN or infinite; the error names tensor and sample.
        MissingThreshold: `tensors` names what the graph does not make.
        EmptyHistogram: a tensor was never reached.
        InvalidOnnx: the graph cannot be read or run.
    """
    return table_of(observe(model, data, store, tensors, progress, batch), method)


def observe(
    model: ExportedModel,
    data: ValidatedCalibration,
    store: Store,
    tensors: Collection[str] | None = None,
    progress: Progress | None = None,
    batch: int | None = None,
) -> Observed:
    """One histogram per observed tensor, in graph order. Arguments and errors as of `calibrate`.

    `table_of` makes a table of them by any method, without running the model again.
    """
    samples = read_samples(store.path_of(data.dataset.calibration.blob))
    require_local(samples, data)
    _require_inputs(samples, model)
    graph = _open(model, store, tensors)
    histograms = {name: Histogram() for name in graph.tensors}
    size = batch or _fitting_batch(graph, _feeds(samples.take(slice(0, 1)), model))
    parts = [samples.take(slice(start, start + size)) for start in range(0, len(samples), size)]
    done = 0
    for part, seen in _stream(graph, parts, model):
        _count(seen, histograms, part, model, graph)
        done += len(part)
        if progress is not None:
            progress(done, len(samples))
    return Observed(seal(model, data, samples), histograms)


def tensors_to_observe(graph: GraphProto) -> tuple[str, ...]:
    """What a calibration has to know of a normalized graph, each once: graph inputs first, then in graph order.

    That is the float32 graph inputs; the first two inputs of every Conv, Gemm and MatMul; and both inputs of every
    Add of two activations (a residual). Initializers and Constants are no activations. Subgraphs are not entered.
    """
    from onnx import TensorProto

    from regiolect.graphs.protos import constants, is_standard

    held = constants(graph)
    names = [value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    for node in graph.node:
        operands = list(node.input[:2])
        residual = node.op_type == "Add" and not held.keys() & set(operands)
        if is_standard(node) and (node.op_type in QUANTIZED_OPERATORS or residual):
            names += operands
    return tuple(name for name in dict.fromkeys(names) if name not in held)


@dataclass(frozen=True)
class _ObservedGraph:
    """A session whose outputs are the tensors to observe. `tensors` are all of them, `made` those that nodes make."""

    session: Any
    tensors: tuple[str, ...]
    made: tuple[str, ...]

    def run(self, feeds: _Arrays) -> dict[str, NDArray[Any]]:
        """Values of every observed tensor on `feeds`.

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


def _open(model: ExportedModel, store: Store, wanted: Collection[str] | None) -> _ObservedGraph:
    import onnxruntime
    from onnx import ValueInfoProto

    from regiolect.graphs.protos import load, normalized

    proto = normalized(load(store.path_of(model.graph)))
    graph = proto.graph
    inputs = {value.name for value in graph.input}
    made = {name for node in graph.node for name in node.output if name}
    names = tensors_to_observe(graph) if wanted is None else tuple(dict.fromkeys(wanted))
    _require_known(names, inputs | made, model)
    outputs = {value.name for value in graph.output}
    graph.output.extend(ValueInfoProto(name=name) for name in names if name in made - outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Threads that wait by spinning would take the core on which the batch before is being counted.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    refused = (f"a graph of {model.name!r} that ONNX Runtime {onnxruntime.__version__} loads", "", "export it again")
    with _vendor_errors(InvalidOnnx, *refused):
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    floats = {value.name for value in (*session.get_inputs(), *session.get_outputs()) if value.type == "tensor(float)"}
    if wanted is not None:
        _require_known(names, floats, model)
    names = tuple(name for name in names if name in floats)
    return _ObservedGraph(session, names, tuple(name for name in names if name in made))


def _require_known(names: Sequence[str], known: Collection[str], model: ExportedModel) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise MissingThreshold(
            expected=f"float32 tensors that the graph of {model.name!r} makes",
            found=f"{', '.join(map(repr, unknown[:5]))}, which it does not",
            remedy="name tensors of the exported graph, or leave `tensors` out",
        )


def _require_inputs(samples: Samples, model: ExportedModel) -> None:
    missing = [tensor.name for tensor in model.inputs if tensor.name not in samples.inputs]
    if missing:
        raise InvalidSamples(
            expected=f"samples with the inputs of {model.name!r}: {', '.join(tensor.name for tensor in model.inputs)}",
            found=f"{', '.join(samples.inputs)}",
            remedy="name the arrays of the region's samples like the model's inputs",
        )


def _feeds(samples: Samples, model: ExportedModel) -> dict[str, NDArray[Any]]:
    prepared = model_inputs(samples, model.preprocessing)
    return {tensor.name: prepared[tensor.name] for tensor in model.inputs}


def _fitting_batch(graph: _ObservedGraph, one: _Arrays) -> int:
    size = sum(values.nbytes for values in graph.run(one).values())
    return min(max(_BATCH_BYTES // max(size, 1), 1), _LARGEST_BATCH)


def _stream(
    graph: _ObservedGraph, parts: Sequence[Samples], model: ExportedModel
) -> Iterator[tuple[Samples, dict[str, NDArray[Any]]]]:
    """Each part with its tensors; the next part runs while the caller works on the one it was given."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="calibrate") as pool:
        pending = pool.submit(graph.run, _feeds(parts[0], model))
        for part, following in zip(parts, (*parts[1:], None), strict=True):
            seen = pending.result()
            if following is not None:
                pending = pool.submit(graph.run, _feeds(following, model))
            yield part, seen


def _count(
    seen: dict[str, NDArray[Any]],
    histograms: Mapping[str, Histogram],
    part: Samples,
    model: ExportedModel,
    graph: _ObservedGraph,
) -> None:
    for name in graph.tensors:
        try:
            # Taken out of `seen`, so that its memory is free for the batch that runs meanwhile.
            histograms[name].update(seen.pop(name))
        except NonFiniteActivation as error:
            culprits = _culprits(name, part, model, graph)
            raise NonFiniteActivation(
                expected=f"finite values in tensor {name!r} of {model.name!r}",
                found=f"{error.found} for sample {', '.join(map(repr, culprits))}",
                remedy="look at that sample's values and at the layer that makes the tensor; mend or remove the sample",
            ) from error


def _culprits(name: str, part: Samples, model: ExportedModel, graph: _ObservedGraph) -> list[str]:
    """Ids of the samples that alone make the tensor NaN or infinite; all of the batch if none does alone.

    Each is run by itself, because the batch need not be an axis of an inner tensor.
    """
    alone = [
        str(part.ids[row])
        for row in range(len(part))
        if not np.isfinite(graph.run(_feeds(part.take(slice(row, row + 1)), model))[name]).all()
    ]
    return alone or [str(sample) for sample in part.ids]


@contextmanager
def _vendor_errors(kind: type[RegiolectError], expected: str, found: str, remedy: str) -> Iterator[None]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented)
    try:
        yield
    except (*own, state.RuntimeException, state.EPFail, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:500]
        raise kind(expected=expected, found=f"{found}{reason}", remedy=remedy) from error

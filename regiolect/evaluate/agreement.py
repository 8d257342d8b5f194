"""Whether a built engine computes what its graph says.

A vendor's compiler may get a graph wrong and say nothing. So an engine that was built is asked a few of the region's
calibration samples, and so is the very graph that it was built from, node by node as ONNX defines it. This judges the
backend alone: what quantization takes from a model is in both, and no sample of the gate is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import BuildRequest, EngineArtifact, ExportedModel, Precision, SampleSet
from regiolect.data import model_inputs, read_parts
from regiolect.engines.base import Backend
from regiolect.engines.engine import Arrays
from regiolect.engines.inputs import batches, padded, padded_size
from regiolect.errors import EngineMiscomputes, ModelError, NotRunnableHere, ReferenceFailed
from regiolect.evaluate.reference import reference_outputs
from regiolect.precision import traits, width
from regiolect.storage import Store

SAMPLES = 8
"""Calibration samples that are asked, at equal distances in the set."""
# Two engines that round otherwise at every step are as far from FP32 as each other, and up to the root of 2 times that
# from each other.
_OF_ITS_OWN = 2.0
# Whole numbers as close as this, whatever the precision, are rounded quantities. Of labels and indices one step is as
# far as any: half of them may be others where scores are close. Where most are one label, as in masks, half of the
# rest, which is taken for a hundredth of all at least.
_NEAR = traits(Precision.FP32).faithful
_WHOLE = 0.5
_REST = 0.01
# Differences below are those of a vendor that flushes to zero what float32 does not hold exactly.
_FLUSHED = float(np.finfo(np.float32).tiny)
# What ONNX's reference raises where it does not compute a node.
_NOT_COMPUTED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Distance:
    """How far an engine's answers lie from its graph's, in one output.

    Attributes:
        share: root of the mean squared difference, over that of the graph's answers, or over 1 where these are zero.
            Of whole numbers for which that is more than FP32's, the number of those that differ, over the number of
            those that are not the most frequent one. Infinite where the engine alone answers NaN or infinity.
        allowed: the largest share that is taken for another way of rounding.
    """

    output: str
    share: float
    allowed: float


def require_agreement(
    backend: Backend, artifact: EngineArtifact, model: ExportedModel, calibration: SampleSet, store: Store
) -> tuple[Distance, ...]:
    """Ask a built engine and its graph the same samples.

    They may differ by the precision's `faithful` (`regiolect.precision.Traits`), or by twice what lies between the
    graph and the model in FP32 if that is more: there a rounding counts for much, and it is the gate's to say whether
    for too much. What is NaN or infinite in the graph's own answers is left out.

    Args:
        calibration: the region's calibration set.

    Returns:
        Each output's distance; nothing for an engine that cannot run on this machine.

    Raises:
        EngineMiscomputes: an output of the engine is another than the graph's.
        ReferenceFailed: the graph itself cannot be run.
        IntegrityError, EngineError: the engine cannot be loaded or run.
        InvalidSamples: the calibration set cannot be read.
    """
    request = artifact.request
    if backend.obstacle() is not None:
        return ()
    try:
        engine = backend.load(artifact, store)
    except NotRunnableHere:
        return ()
    inputs = fitted(request, few_inputs(model, calibration, store))
    answers = engine.run_many(inputs)
    graph = graph_outputs(store.path_of(request.graph), request, inputs)

    def in_fp32() -> Arrays:
        return reference_outputs(model, inputs, store, request.profile.opt)

    found = distances(answers, graph, _allowed(request), in_fp32)
    wrong = [each for each in found if not each.share <= each.allowed]
    if wrong:
        raise _miscomputes(request, max(wrong, key=lambda each: each.share), len(wrong), calibration.samples)
    return found


def few_inputs(model: ExportedModel, calibration: SampleSet, store: Store) -> dict[str, NDArray[np.float32]]:
    """A few samples of a set, evenly spaced, preprocessed; the rest of it is never in memory.

    Raises:
        InvalidSamples: it cannot be read.
    """
    places = np.unique(np.linspace(0, calibration.samples - 1, SAMPLES).astype(int)).tolist()
    parts = [
        model_inputs(part, model.preprocessing)
        for part in read_parts(store.path_of(calibration.blob), [(place, place + 1) for place in places])
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fitted(request: BuildRequest, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Inputs of sizes that the engine is fed: padded with zeros as it pads them, so that its graph answers to the same;
    and cut where they are larger than it takes, which the samples of a calibration may be."""
    cut, shapes = {}, {}
    for tensor in request.inputs:
        array = inputs[tensor.name]
        profiles = [request.shapes.get(size) if isinstance(size, str) else None for size in tensor.shape[1:]]
        most = tuple(slice(None if profile is None else profile.max) for profile in profiles)
        cut[tensor.name] = array[(slice(None), *most)]
        shapes[tensor.name] = tuple(
            size if profile is None else padded_size(size, profile)
            for size, profile in zip(cut[tensor.name].shape[1:], profiles, strict=True)
        )
    return padded(cut, len(next(iter(cut.values()))), shapes)


def graph_outputs(graph: Path, request: BuildRequest, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """What a typed graph answers, node by node: through ONNX Runtime's CPU provider without any optimization, which
    makes no integer kernel of Q/DQ nodes, and with exact kernels for what is written in integers; through ONNX's own
    reference where ONNX Runtime does not run the graph.

    Args:
        request: names the outputs; batches are as large as the engine's.

    Raises:
        ReferenceFailed: neither runs it, or an output has not one row per sample.
    """
    rows = len(next(iter(inputs.values())))
    pieces = batches(inputs, rows, request.profile.opt)
    try:
        parts = _node_by_node(graph, request.outputs, pieces)
    except _failures() as error:
        parts = _by_reference(graph, request, pieces, error)
    outputs = {
        name: np.concatenate([np.atleast_1d(part[place]) for part in parts])
        for place, name in enumerate(request.outputs)
    }
    for name, output in outputs.items():
        if len(output) != rows:
            raise ReferenceFailed(
                expected=f"output {name!r} of the {request.precision} graph of {request.model!r} with one row per "
                f"sample ({rows})",
                found=f"shape {output.shape}",
                remedy="export the model with the batch as first dimension of every output",
            )
    return outputs


def distances(answers: Arrays, graph: Arrays, allowed: float, in_fp32: Callable[[], Arrays]) -> tuple[Distance, ...]:
    """How far answers lie from a graph's, output by output.

    Args:
        answers: the engine's, by output.
        graph: the graph's, of the same shapes.
        allowed: what another way of rounding makes of one, as a share.
        in_fp32: answers of the model in FP32; asked for only where that is exceeded.
    """
    found = []
    for name, expected in graph.items():
        actual = answers[name]
        if actual.shape != expected.shape:
            found.append(Distance(name, np.inf, allowed))
            continue
        share = _share(actual, expected) if expected.dtype.kind in "biufc" else np.inf
        bound, most, measure = allowed, np.inf, _share
        if share > min(allowed, _NEAR) and expected.dtype.kind not in "fc":
            # Where quantization leaves no label as it was, its own distance is no measure; and where most labels are
            # others, nothing is.
            half = np.count_nonzero(actual != expected) <= _WHOLE * expected.size
            share, bound, most, measure = _others(actual, expected), _WHOLE, 1.0 if half else 0.0, _others
        if share > bound:
            own = _OF_ITS_OWN * measure(in_fp32()[name], expected)
            bound = max(bound, own) if own < most else bound
        found.append(Distance(name, share, bound))
    return tuple(found)


def _share(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Size of the difference over size of what is expected, over the values that are finite there; infinite where a
    value is not finite in the other alone, and where nothing is finite in what is expected alone. What is always zero
    counts as of size 1, for want of any other."""
    if actual.shape != expected.shape:
        return np.inf
    finite = np.isfinite(expected)
    if expected.size and not finite.any():
        # Nothing is left to compare: that alone is no agreement.
        return np.inf if np.isfinite(actual).any() else 0.0
    right = expected[finite].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = actual[finite].astype(np.float64) - right
        apart = np.linalg.norm(np.where(np.abs(difference) < _FLUSHED, 0.0, difference))
    size = np.linalg.norm(right) or np.sqrt(max(right.size, 1))
    return float(apart / size) if np.isfinite(apart) else np.inf


def _others(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """How many whole numbers differ, over those that are not the most frequent one; infinite in another shape."""
    if actual.shape != expected.shape:
        return np.inf
    rest = expected.size - int(np.unique(expected, return_counts=True)[1].max(initial=0))
    of = min(expected.size, max(rest, len(expected), _REST * expected.size))
    return np.count_nonzero(actual != expected) / of if of else 0.0


def _allowed(request: BuildRequest) -> float:
    # TF32 keeps as many bits as FP16.
    coarser = Precision.FP16 if request.tf32 else request.precision
    return max(traits(request.precision).faithful, traits(coarser).faithful)


def _node_by_node(graph: Path, outputs: tuple[str, ...], pieces: list[dict[str, NDArray[Any]]]) -> list[list[Any]]:
    from regiolect.engines.reference import NONE, open_graph, session_options

    options = session_options()
    options.graph_optimization_level = NONE
    session = open_graph(graph, options)
    return [list(session.run(list(outputs), piece)) for piece in pieces]


def _failures() -> tuple[type[Exception], ...]:
    from regiolect.engines.reference import FAILURES

    return (*FAILURES, ModelError)


def _by_reference(
    graph: Path, request: BuildRequest, pieces: list[dict[str, NDArray[Any]]], first: Exception
) -> list[list[Any]]:
    from onnx.reference import ReferenceEvaluator

    from regiolect.export.parity import last_line
    from regiolect.graphs import protos

    try:
        with np.errstate(all="ignore"):
            reference = ReferenceEvaluator(protos.load(graph))
            return [list(reference.run(list(request.outputs), piece)) for piece in pieces]
    except (*_NOT_COMPUTED, ModelError) as error:
        raise ReferenceFailed(
            expected=f"the {request.precision} graph of {request.model!r} to run in ONNX Runtime or in ONNX's own "
            "reference, so that the engine can be compared with it",
            found=f"{last_line(first)}; {last_line(error)}",
            remedy="replace the operator named here in the model, or export it in another opset",
        ) from first


def _miscomputes(request: BuildRequest, worst: Distance, count: int, samples: int) -> EngineMiscomputes:
    what = "another shape, NaN or infinity" if worst.share == np.inf else f"{worst.share:.2g} of its size away"
    more = f", and {count - 1} more of its outputs" if count > 1 else ""
    whose, its = request.target.backend, request.target.name
    wider = "" if width(request.precision) == 0 else ", allow a wider precision in `repair.fallback`,"
    return EngineMiscomputes(
        expected=f"output {worst.output!r} of the {request.precision} engine of {whose} within {worst.allowed:.2g} of "
        "the size of what the graph answers that it was built from",
        found=f"{what}, on {min(samples, SAMPLES)} calibration samples{more}",
        remedy=f"{whose} computes this graph wrongly, which no other thresholds mend: name another backend for {its!r} "
        f"in the policy of {request.region}{wider} or install another version of {whose}",
    )

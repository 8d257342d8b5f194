"""Parity: a graph against its source, sample by sample, at several batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import ParityReport, TensorSpec
from regiolect.data import Samples, model_inputs
from regiolect.errors import InvalidOnnx, InvalidSamples, ParityFailed
from regiolect.model import ModelSpec

PARITY_SAMPLES = 64
# Sums of thousands of products in FP32, taken in another order, differ by some dozens of its steps of 1e-7.
_ROUNDING = 1e-5
Runner = Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]
"""Inputs by name -> outputs in the spec's order, all with the batch as first dimension."""


@dataclass(frozen=True)
class Batch:
    """Preprocessed samples: `ids` of shape (n,), and float32 `inputs` by name with n rows each."""

    ids: tuple[str, ...]
    inputs: Mapping[str, NDArray[Any]]

    def rows(self, index: Sequence[int]) -> dict[str, NDArray[Any]]:
        return {name: np.ascontiguousarray(array[list(index)]) for name, array in self.inputs.items()}


def prepare(spec: ModelSpec, samples: Samples) -> Batch:
    """The first 64 samples, preprocessed and checked against the spec's inputs.

    Raises:
        InvalidSamples: an input is missing, has another shape, or holds NaN or infinity.
    """
    few = samples.take(slice(0, PARITY_SAMPLES))
    wanted = {tensor.name for tensor in spec.inputs}
    if set(few.inputs) != wanted:
        raise InvalidSamples(
            expected=f"samples with the inputs {sorted(wanted)} of {spec.name!r}",
            found=f"{sorted(few.inputs)}",
            remedy="name the arrays in Samples.inputs like the inputs of the ModelSpec",
        )
    arrays = model_inputs(few, spec.preprocessing)
    for tensor in spec.inputs:
        _check_input(tensor, arrays[tensor.name])
    inputs = {tensor.name: arrays[tensor.name] for tensor in spec.inputs}
    return Batch(ids=tuple(str(name) for name in few.ids), inputs=inputs)


def _check_input(tensor: TensorSpec, array: NDArray[Any]) -> None:
    fits = len(array.shape) == len(tensor.shape) and all(
        isinstance(wanted, str) or wanted == size for wanted, size in zip(tensor.shape, array.shape, strict=True)
    )
    if not fits:
        raise InvalidSamples(
            expected=f"input {tensor.name!r} of shape {tensor.shape}",
            found=f"{array.shape}",
            remedy="bring the samples into the shape of the ModelSpec's input, or correct the spec",
        )
    if not np.isfinite(array).all():
        raise InvalidSamples(
            expected=f"finite values in input {tensor.name!r}",
            found=f"{np.count_nonzero(~np.isfinite(array))} NaN or infinite values",
            remedy="repair or leave out the samples that hold them",
        )


def noise(spec: ModelSpec, size: int = 16, dimension: int = 32) -> Batch:
    """Seeded normal noise in place of real samples; symbolic dimensions after the batch are `dimension`."""
    rng = np.random.default_rng(0)
    inputs: dict[str, NDArray[Any]] = {}
    for tensor in spec.inputs:
        shape = (size, *(dimension if isinstance(extent, str) else extent for extent in tensor.shape[1:]))
        inputs[tensor.name] = rng.standard_normal(shape, np.float32)
    return Batch(ids=tuple(f"noise-{index}" for index in range(size)), inputs=inputs)


def ort_runner(spec: ModelSpec, model: bytes) -> Runner:
    """Run a graph with ONNX Runtime on the CPU, its optimisations on.

    Raises:
        InvalidOnnx: ONNX Runtime refuses the graph; the runner itself raises it for inputs that it cannot take.
    """
    from regiolect.engines.reference import FAILURES, LIBRARY, open_graph, session_options

    try:
        session = open_graph(model, session_options())
    except FAILURES as error:
        raise InvalidOnnx(
            expected=f"a graph of {spec.name!r} that {LIBRARY} loads",
            found=last_line(error),
            remedy="export the model again with a current exporter and opset 20",
        ) from error

    def run(inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            return list(session.run(list(spec.outputs), dict(inputs)))
        except FAILURES as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise InvalidOnnx(
                expected=f"a graph of {spec.name!r} that runs on {shapes}",
                found=last_line(error),
                remedy="export it with dynamic dimensions wherever the ModelSpec has a symbolic one",
            ) from error

    return run


def compare(spec: ModelSpec, reference: Runner, graph: Runner, batch: Batch) -> ParityReport:
    """Run both on every sample, in batches of 1, 7 and 16, and compare all outputs.

    A value of hundreds of pixels is rounded in steps that a probability does not have. So beside the spec's tolerance
    it may differ by 1e-5 of what it counts beyond 1, or by a tenth of the tolerance for each 1, if that is less.

    Returns:
        The sample with the largest absolute difference over all outputs, and that difference.

    Raises:
        ParityFailed: a difference above what is allowed, an output that is NaN or infinite, or outputs of other shapes.
    """
    rounding = min(_ROUNDING, spec.parity_tolerance / 10)
    beyond, errors = np.zeros(len(batch.ids)), np.zeros(len(batch.ids))
    for index in _chunks(len(batch.ids)):
        rows = batch.rows(index)
        ids = [batch.ids[row] for row in index]
        for pair in _paired(spec, reference(rows), graph(rows)):
            difference, size = _differences(spec, ids, *pair)
            np.maximum.at(beyond, np.asarray(index), _largest(difference - rounding * np.maximum(size - 1, 0)))
            np.maximum.at(errors, np.asarray(index), _largest(difference))
    most = int(np.argmax(beyond))
    if not beyond[most] <= spec.parity_tolerance:
        raise ParityFailed(
            expected=f"outputs of {spec.name!r} and of its ONNX graph within {spec.parity_tolerance:g}, beside "
            f"{rounding:g} of what a value counts beyond 1",
            found=f"a difference of {errors[most]:.3g} on sample {batch.ids[most]!r}, the worst of {len(errors)}",
            remedy="look for randomness, state kept between calls or custom operators in the model; "
            "if the difference is harmless, raise parity_tolerance in the ModelSpec",
        )
    worst = int(np.argmax(errors))
    return ParityReport(
        samples=len(errors),
        tolerance=spec.parity_tolerance,
        worst_sample=batch.ids[worst],
        worst_error=float(errors[worst]),
    )


def _chunks(count: int) -> list[list[int]]:
    # Batches of 1 and 7 first: they prove that the batch is really dynamic, also when there are few samples.
    rest = [list(range(start, min(start + 16, count))) for start in range(8, count, 16)]
    return [[0], [row % count for row in range(1, 8)], *rest]


def _paired(
    spec: ModelSpec, expected: list[NDArray[Any]], converted: list[NDArray[Any]]
) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    return list(zip(spec.outputs, expected, converted, strict=True))


def _differences(
    spec: ModelSpec, ids: Sequence[str], output: str, expected: NDArray[Any], converted: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far two outputs are apart, and the size of what is expected; a row for each sample."""
    if expected.shape != converted.shape or len(converted.shape) == 0 or len(converted) != len(ids):
        raise ParityFailed(
            expected=f"output {output!r} of {spec.name!r} with one row per sample, {len(ids)} here",
            found=f"shape {expected.shape} from the source, {converted.shape} from its ONNX graph, at sample "
            f"{ids[0]!r}",
            remedy="keep the batch as first dimension of every output, and let no output depend on the batch size",
        )
    broken = ~(np.isfinite(expected) & np.isfinite(converted)).reshape(len(ids), -1).all(axis=1)
    if broken.any():
        raise ParityFailed(
            expected=f"finite values in output {output!r} of {spec.name!r}",
            found=f"NaN or infinity on sample {ids[int(np.argmax(broken))]!r}",
            remedy="check the model's weights and the preprocessing in its ModelSpec",
        )
    right = expected.astype(np.float64).reshape(len(ids), -1)
    return np.abs(right - converted.astype(np.float64).reshape(len(ids), -1)), np.abs(right)


def _largest(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(differences.max(axis=1, initial=0.0), np.float64)


def last_line(error: BaseException) -> str:
    """An error's type and the last line of its text, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:300]}" if lines else type(error).__name__

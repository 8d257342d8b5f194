"""Probes of an INT8 engine's self-test: inputs made from its graph, and what the engine answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import Blob, BuildRequest, ExportedModel
from regiolect.engines.engine import Arrays, Engine
from regiolect.engines.inputs import padded_size
from regiolect.engines.selftest import Probes, kept_values, tolerances
from regiolect.errors import NonFiniteOutputs
from regiolect.evaluate.reference import reference_outputs
from regiolect.precision import traits
from regiolect.storage import Store

Range = tuple[float, float]

# Coarse shapes, that a network takes for something, then finer ones, then each value by itself.
_CELLS: Sequence[int | None] = (2, 8, None)
# Few, so that they compress; and not those of the quantizer, whose own rounding is part of an engine's distance.
_LEVELS = 97


def keep_probes(engine: Engine, model: ExportedModel, samples: Arrays, store: Store) -> Blob | None:
    """Ask a loaded engine and its reference, and keep what it takes to ask the engine again elsewhere.

    Args:
        engine: the engine that is judged.
        model: the exported model that it was built from, whose reference gives the tolerances.
        samples: preprocessed samples; of an input that the graph does not quantize as it comes, they tell the range.
        store: where the graph lies, and the probes will.

    Returns:
        None for an engine whose graph is not INT8: no processor answers otherwise than another.

    Raises:
        NonFiniteOutputs: engine or reference have no finite answer to any of them.
        ReferenceFailed, EngineError: one of them does not run.
    """
    request = engine.artifact.request
    if not traits(request.precision).by_arithmetic:
        return None
    quantized = quantized_ranges(store.path_of(request.graph))
    ranges = {name: quantized.get(name, (float(array.min()), float(array.max()))) for name, array in samples.items()}
    inputs = probe_inputs(request, ranges)
    answers = kept_values(engine.run_many(inputs))
    reference = kept_values(reference_outputs(model, inputs, store))
    # What overflows in the model itself tells nothing.
    finite = np.all([np.isfinite(each).all(axis=1) for each in (*answers.values(), *reference.values())], axis=0)
    if not finite.any():
        raise NonFiniteOutputs(
            expected=f"finite outputs of {model.name!r} for some inputs within the range of its calibration",
            found="NaN or infinity for each of them",
            remedy="look for an operator that overflows, or name a wider precision in the policy",
        )
    cut = partial(_rows, index=finite)
    own = tolerances(cut(answers), cut(reference))
    return store.put_bytes(Probes(cut(inputs), cut(answers), own).to_bytes())


def _rows(arrays: Arrays, index: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    return {name: array[index] for name, array in arrays.items()}


def quantized_ranges(graph: Path) -> dict[str, Range]:
    """What the integers of a graph's quantized inputs stand for, smallest and largest, by input name.

    An input that is computed with before it is quantized is left out.

    Raises:
        InvalidOnnx: the graph cannot be read.
    """
    from onnx import numpy_helper

    from regiolect.graphs import protos

    ranges: dict[str, Range] = {}
    body = protos.load(graph).graph
    held = protos.constants(body)
    came_from = {value.name: value.name for value in body.input}
    for node in body.node:
        start = came_from.get(node.input[0]) if node.input else None
        if start is None:
            continue
        if node.op_type in protos.MOVES_ONE_INPUT:
            came_from[node.output[0]] = start
        elif node.op_type == "QuantizeLinear" and all(name in held for name in node.input[1:]):
            scale, *zero = (numpy_helper.to_array(held[name]) for name in node.input[1:])
            if scale.size == 1:
                zero_point = zero[0] if zero else np.uint8(0)
                limits = np.iinfo(zero_point.dtype)
                ends = [(int(end) - int(zero_point.item())) * float(scale.item()) for end in (limits.min, limits.max)]
                ranges[start] = (ends[0], ends[1])
    return ranges


def probe_inputs(request: BuildRequest, ranges: dict[str, Range]) -> dict[str, NDArray[np.float32]]:
    """Inputs within the given ranges, of the sizes that an engine is fed where it is tuned; the same each time.

    Where a dimension has buckets these are padded sizes, so that engine and reference answer to the same inputs:
    zeros that the engine alone was given would be part of the distance that its self-test tolerates.

    All values at one end of the range, then patterns of both ends, where products of 8 x 8 bits are largest, and
    patterns of everything in between.

    Returns:
        Arrays of float32 by input name, all with the same number of rows.
    """
    random = np.random.default_rng(0)
    inputs = {}
    for tensor in request.inputs:
        shape = tuple(
            padded_size(request.shapes[size].opt, request.shapes[size]) if isinstance(size, str) else size
            for size in tensor.shape[1:]
        )
        shares = [np.zeros(shape), np.ones(shape)]
        for cells in _CELLS:
            # More than half of all lie between the ends: the usual distance is that of usual inputs.
            for levels in (1, _LEVELS, _LEVELS):
                shares.append(_pattern(random.integers(0, levels + 1, _grid(shape, cells)), shape) / levels)
        low, high = ranges[tensor.name]
        inputs[tensor.name] = (low + (high - low) * np.stack(shares)).astype(np.float32)
    return inputs


def _grid(shape: Sequence[int], cells: int | None) -> tuple[int, ...]:
    return tuple(size if cells is None else min(size, cells) for size in shape)


def _pattern(grid: NDArray[np.int64], shape: Sequence[int]) -> NDArray[np.int64]:
    """A grid's values, each over a piece of `shape`."""
    places = [np.arange(size) * cells // size for size, cells in zip(shape, grid.shape, strict=True)]
    return grid[np.ix_(*places)] if places else grid

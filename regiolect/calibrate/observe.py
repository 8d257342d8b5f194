"""Run the FP32 graph on a region's samples and stream what flows through it into histograms and ranges.

Nothing else outlives a batch, and samples are read a batch at a time, so memory depends on the model and the batch,
not on how many samples there are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from regiolect.calibrate.histogram import Extremes, Histogram
from regiolect.calibrate.observed import WHOLE, Observed, Shard, table_of
from regiolect.calibrate.watched import Arrays, WatchedGraph, culprits, watched
from regiolect.contracts import CalibrationMethod, CalibrationTable, ExportedModel, ValidatedCalibration
from regiolect.data import SampleIndex, Samples, model_inputs, read_index, read_parts
from regiolect.errors import InvalidSamples, InvalidSetting, NonFiniteActivation
from regiolect.host.processors import processors
from regiolect.provenance import require_local, seal
from regiolect.storage import Store

Progress = Callable[[int, int], None]
"""(samples done, samples in all)."""

# Batches under way at a time, each with its share of the processors: while one is being counted another one runs.
_SIDE_BY_SIDE = 4
# What one batch's tensors may take.
_BATCH_BYTES = 64 << 20
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

    Arguments and errors as of `observe` and `table_of`.
    """
    return table_of(observe(model, data, store, tensors, progress, batch), method)


def observe(
    model: ExportedModel,
    data: ValidatedCalibration,
    store: Store,
    tensors: Collection[str] | None = None,
    progress: Progress | None = None,
    batch: int | None = None,
    *,
    histograms: bool = True,
    ranges: bool = False,
    shard: Shard = WHOLE,
) -> Observed:
    """Histograms and ranges of a model's tensors on a region's calibration set, from one pass.

    `table_of` makes a table of them by any method, without running the model again.

    Args:
        model: an exported FP32 model.
        data: the region's data, after every check passed.
        store: where the graph and the samples are kept.
        tensors: names of the float32 tensors to count; by default `tensors_to_observe`, all that INT8 quantizes.
        progress: called after each batch.
        batch: samples at a time, with no influence on the answer beyond the graph's own rounding; by default as many
            as keep the tensors of a batch within 64 MiB, at most 64.
        histograms: whether to count; FP16 needs ranges only.
        ranges: whether to keep the range of every other float32 tensor too, as FP16 needs it.
        shard: the part of the set to run; `merge_observed` puts the parts together. Parts are cut between batches, so
            that the whole is bit for bit what one pass over everything gives.

    Raises:
        ForeignCalibration: a sample, or the set, belongs to another region.
        InvalidSamples: the samples do not fit the model's inputs.
        InvalidSetting: there are more shards than batches.
        NonFiniteActivation: a tensor to count is NaN or infinite, or one with a range NaN; the error names tensor and
            sample.
        MissingThreshold: `tensors` names what the graph does not make, or there is nothing to observe.
        InvalidOnnx: the graph cannot be read or run.
    """
    path = store.path_of(data.dataset.calibration.blob)
    index = read_index(path)
    require_local(index, data)
    _require_inputs(index, model)
    most = processors()
    threads = math.ceil(most / _SIDE_BY_SIDE)
    graph = watched(model, store, tensors, histograms=histograms, ranges=ranges, threads=threads)
    size = batch or _fitting_batch(graph, _feeds(next(read_parts(path, [(0, 1)])), model))
    bounds = _bounds(len(index), size, shard)
    tally = _Tally.of(graph, model)
    total, done = sum(stop - start for start, stop in bounds), 0
    for count in tally.stream(read_parts(path, bounds), min(most, _SIDE_BY_SIDE), threads):
        done += count
        if progress is not None:
            progress(done, total)
    ids = index.ids[bounds[0][0] : bounds[-1][1]]
    return Observed(seal(model, data, ids), tally.histograms, tally.ranges, shard)


def _require_inputs(index: SampleIndex, model: ExportedModel) -> None:
    missing = [tensor.name for tensor in model.inputs if tensor.name not in index.inputs]
    if missing:
        raise InvalidSamples(
            expected=f"samples with the inputs of {model.name!r}: {', '.join(tensor.name for tensor in model.inputs)}",
            found=f"{', '.join(index.inputs)}",
            remedy="name the arrays of the region's samples like the model's inputs",
        )


def _feeds(samples: Samples, model: ExportedModel) -> dict[str, NDArray[Any]]:
    prepared = model_inputs(samples, model.preprocessing)
    return {tensor.name: prepared[tensor.name] for tensor in model.inputs}


def _fitting_batch(graph: WatchedGraph, one: Arrays) -> int:
    size = sum(values.nbytes for values in graph.run(one).values())
    return min(max(_BATCH_BYTES // max(size, 1), 1), _LARGEST_BATCH)


def _bounds(samples: int, size: int, shard: Shard) -> list[tuple[int, int]]:
    """First and last row of each batch of a shard; shards differ by one batch at most."""
    starts = range(0, samples, size)
    if shard.of > len(starts):
        raise InvalidSetting(
            expected=f"at most {len(starts)} shards of {samples} samples in batches of {size}",
            found=str(shard.of),
            remedy="use fewer shards",
        )
    own = starts[len(starts) * shard.index // shard.of : len(starts) * (shard.index + 1) // shard.of]
    return [(start, min(start + size, samples)) for start in own]


@dataclass(frozen=True)
class _Tally:
    """What was seen so far. Batches come in any order, from several threads; the answer is the same."""

    graph: WatchedGraph
    model: ExportedModel
    histograms: dict[str, Histogram]
    ranges: dict[str, Extremes]
    locks: dict[str, Lock]

    @classmethod
    def of(cls, graph: WatchedGraph, model: ExportedModel) -> _Tally:
        return cls(
            graph,
            model,
            {name: Histogram() for name in graph.counted},
            {name: Extremes() for name in graph.ranged},
            {name: Lock() for name in graph.tensors},
        )

    def stream(self, parts: Iterator[Samples], side_by_side: int, threads: int) -> Iterator[int]:
        """Run and count every part, so many side by side, each by so many threads; tells how many samples it had."""
        with ThreadPoolExecutor(side_by_side * threads) as counting, ThreadPoolExecutor(side_by_side) as running:
            # Alone, the thread that ran a part has its tensors at hand; another one would only take turns with it.
            spread = counting.map if threads > 1 else map

            def run_and_count(part: Samples) -> int:
                tensors = self.graph.run(_feeds(part, self.model))
                # Taken out of `tensors`, so that each tensor's memory is free as soon as it was counted.
                for _ in spread(lambda name: self._count(name, tensors.pop(name), part), self.graph.tensors):
                    pass
                return len(part)

            pending: deque[Future[int]] = deque()
            for part in parts:
                # One more than run, so that none has to wait for the next part.
                if len(pending) > side_by_side:
                    yield pending.popleft().result()
                pending.append(running.submit(run_and_count, part))
            while pending:
                yield pending.popleft().result()

    def _count(self, name: str, values: NDArray[Any], part: Samples) -> None:
        counted = name in self.histograms
        try:
            with self.locks[name]:
                (self.histograms[name] if counted else self.ranges[name]).update(values)
        except NonFiniteActivation as error:
            alone = (_feeds(part.take(slice(row, row + 1)), self.model) for row in range(len(part)))
            guilty = culprits(name, self.graph, part.ids.tolist(), alone, infinite=counted)
            raise NonFiniteActivation(
                expected=f"finite values in tensor {name!r} of {self.model.name!r}",
                found=f"{error.found} for sample {', '.join(map(repr, guilty))}",
                remedy="look at that sample's values and at the layer that makes the tensor; mend or remove the sample",
            ) from error

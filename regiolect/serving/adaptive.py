"""A served model for many callers at once: it batches what waits, and changes its operating point with the load."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import Preprocessing
from regiolect.data import preprocess
from regiolect.engines.engine import Engine, require_own_process
from regiolect.engines.inputs import checked_rows, fed_shapes, padded, rows_in
from regiolect.errors import ModelClosed, Overloaded, ShapeOutsideProfile
from regiolect.serving.bundles import raw_inputs
from regiolect.serving.dispatch import Batch, Dispatcher, Request
from regiolect.serving.forecast import Point

Outputs = dict[str, NDArray[Any]]
# Of whose latencies `statistics` tells the percentiles.
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Statistics:
    """What a served model did since it was opened, and does now.

    Attributes:
        point: the operating point in use.
        switches: how often it changed.
        rate: samples per second that come, refused ones among them.
        capacity: samples per second that it can answer at most, at the present pace.
        waiting: samples in the queue.
        in_flight: samples that an engine computes now.
        answered: requests that got an answer.
        failed: requests whose batch ended in an error.
        shed: requests refused with `Overloaded`.
        batches: number of batches by their size.
        p50_ms, p99_ms: from request to answer, of the last 10,000 answers; None before the first.
    """

    point: str
    switches: int
    rate: float
    capacity: float
    waiting: int
    in_flight: int
    answered: int
    failed: int
    shed: int
    batches: Mapping[int, int]
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class _Caller:
    inputs: Mapping[str, NDArray[Any]]
    rows: int
    came: float
    future: Future[Outputs]


class AdaptiveModel:
    """An engine behind a queue, at several operating points; made by `regiolect.serving.load_adaptive`.

    May be called from any number of threads of the process that loaded it. A context manager: `close` at its end.

    Attributes:
        name: the registry's name, `<model>-<region>`.
        target: name of the target whose engine was loaded here.
        points: the operating points that it chooses from.
        patience: seconds within which an accepted request is expected to be answered.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        preprocessing: Preprocessing,
        points: Sequence[Point],
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            engines: one engine file, loaded in different configurations.
            preprocessing: from raw inputs to the engine's.
            points: `Point.engine` is a place in `engines`.
            clock: tells seconds.

        Raises:
            InvalidSetting: no point answers within `patience`.
        """
        self._request = engines[0].artifact.request
        self._preprocessing = preprocessing
        self.name = f"{self._request.model}-{self._request.region}"
        self.target = self._request.target.name
        self.patience = patience
        self._engines = engines
        self._process = engines[0].process
        self._clock = clock
        self._dispatcher = Dispatcher(points, patience)
        self.points = self._dispatcher.points
        # One more than batches in flight: the next begins while the last one's answers are handed out.
        threads = 1 + max(point.slots for point in points)
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(threads, "regiolect-serve", initializer=partial(setattr, self._own, "is", True))
        self._lock = threading.Lock()
        self._empty = threading.Condition(self._lock)
        self._tickets = itertools.count()
        self._callers: dict[int, _Caller] = {}
        self._closed = False
        self._answered = self._failed = self._shed = 0
        self._batches: Counter[int] = Counter()
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)

    def predict(self, model_input: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Outputs:
        """As `submit`, waiting for the answer.

        Raises:
            As `submit`, and what the engine raises.
        """
        return self.submit(model_input).result()

    def submit(self, model_input: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Future[Outputs]:
        """Ask for the outputs of one or a few samples; preprocessing is done in the calling thread.

        Args:
            model_input: as for `ServedModel.predict`, of at most `profile.max` samples, which share a batch.

        Returns:
            A future of outputs by name, one row per sample. An error of the engine is raised by the futures of its
            batch alone. A future that is cancelled before its batch begins is not computed.

        Raises:
            Overloaded: the answer would come after `patience`; nothing was computed.
            InvalidSamples: a name, dtype, fixed dimension or value is wrong; no other request is affected.
            ShapeOutsideProfile: too many samples, none, or another size that the engine was not built for.
            ModelClosed: `close` was called.
            OtherProcess: this is a forked child of the process that loaded it.
        """
        # Before any lock: another thread may have held it when this process was forked, and is not here to let go.
        require_own_process(self.name, self._process)
        specs, most = self._request.inputs, self._request.profile.max
        raw = raw_inputs(self.name, specs, self._preprocessing, model_input)
        rows = rows_in(specs, {name: array.shape for name, array in raw.items()})
        if not 1 <= rows <= most:
            raise ShapeOutsideProfile(
                expected=f"1 to {most} samples in a request, as many as one batch may hold",
                found=f"{rows}",
                remedy="ask in several requests, or load the bundle with load_bundle, which takes any number",
            )
        shapes = fed_shapes(specs, raw, self._request.shapes)
        came = self._clock()
        with self._lock:
            self._dispatcher.came(came, rows)
            self._require_room(rows, tuple(shapes.values()))
        inputs = {name: preprocess(array, self._preprocessing) for name, array in raw.items()}
        checked_rows(specs, inputs)
        caller = _Caller(padded(inputs, rows, shapes), rows, came, Future())
        with self._lock:
            # Others may have come while this one was prepared.
            self._require_room(rows, tuple(shapes.values()))
            ticket = next(self._tickets)
            self._callers[ticket] = caller
            self._dispatcher.add(Request(ticket, rows, tuple(shapes.values())))
            begun = self._begun()
        self._start(begun)
        return caller.future

    def statistics(self) -> Statistics:
        """What it did so far, and does now.

        Raises:
            OtherProcess: as `submit`.
        """
        require_own_process(self.name, self._process)
        with self._lock:
            now, latencies = self._clock(), np.array(self._latencies)
            percentiles = np.percentile(latencies, (50, 99), method="higher") * 1e3 if len(latencies) else (None, None)
            return Statistics(
                point=self._dispatcher.point.name,
                switches=self._dispatcher.switches,
                rate=self._dispatcher.rate(now),
                capacity=self._dispatcher.capacity,
                waiting=self._dispatcher.waiting,
                in_flight=self._dispatcher.flying,
                answered=self._answered,
                failed=self._failed,
                shed=self._shed,
                batches=dict(sorted(self._batches.items())),
                p50_ms=None if percentiles[0] is None else float(percentiles[0]),
                p99_ms=None if percentiles[1] is None else float(percentiles[1]),
            )

    def close(self) -> None:
        """Take no more requests, and return when all that were accepted are answered. Twice is as good as once.

        In a future's callback it returns at once, for the thread that it holds up may be the one that answers. In a
        forked child nothing is to be done.
        """
        if os.getpid() != self._process:
            return
        answering = getattr(self._own, "is", False)
        with self._lock:
            self._closed = True
            if not answering:
                self._empty.wait_for(self._idle)
            idle = self._idle()
        if idle:
            self._pool.shutdown(wait=not answering)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _idle(self) -> bool:
        return not self._dispatcher.waiting and not self._dispatcher.flying

    def _require_room(self, rows: int, shape: tuple[object, ...]) -> None:
        if self._closed:
            raise ModelClosed(
                expected=f"{self.name} to be open",
                found="it was closed",
                remedy="load it again, or stop asking before it is closed",
            )
        wait = self._dispatcher.refusal(rows, shape)
        if wait is not None:
            self._shed += 1
            now, capacity = self._dispatcher.rate(self._clock()), self._dispatcher.capacity
            error = Overloaded(
                expected=f"an answer of {self.name} within {self.patience:g} s",
                found=f"{now:.0f} samples a second where {capacity:.0f} can be answered, {self._dispatcher.waiting} "
                "of them waiting",
                remedy=f"ask again after {wait:.2g} s, or add another instance",
            )
            error.retry_after = wait
            raise error

    def _begun(self) -> list[tuple[Batch, list[_Caller]]]:
        """The batches that can begin now, with those who still want their answer. Under the lock."""
        begun = []
        while (batch := self._dispatcher.next(self._clock())) is not None:
            callers = [self._callers.pop(request.ticket) for request in batch.requests]
            begun.append((batch, [caller for caller in callers if caller.future.set_running_or_notify_cancel()]))
        return begun

    def _start(self, begun: list[tuple[Batch, list[_Caller]]]) -> None:
        # Without the lock: a batch may be done before its callback is added, which is then called from here.
        for batch, callers in begun:
            running = self._pool.submit(self._run, batch, callers)
            running.add_done_callback(partial(self._ended, batch, callers))

    def _run(self, batch: Batch, callers: Sequence[_Caller]) -> Outputs:
        if not callers:
            return {}
        given = [caller.inputs for caller in callers]
        joined = {name: np.concatenate([one[name] for one in given]) for name in given[0]} if given[1:] else given[0]
        return self._engines[batch.point.engine].run_many(joined, batch=sum(caller.rows for caller in callers))

    def _ended(self, batch: Batch, callers: Sequence[_Caller], running: Future[Outputs]) -> None:
        error, now = running.exception(), self._clock()
        with self._lock:
            computed = sum(caller.rows for caller in callers)
            self._dispatcher.ended(batch, now, worked=error is None and computed == batch.rows)
            begun = self._begun()
            if error is None:
                self._answered += len(callers)
                self._batches[computed] += bool(callers)
                self._latencies.extend(now - caller.came for caller in callers)
            else:
                self._failed += len(callers)
            self._empty.notify_all()
            last = self._closed and self._idle()
        self._start(begun)
        if last:
            # Whoever closed it from a callback did not wait.
            self._pool.shutdown(wait=False)
        if error is not None:
            for caller in callers:
                caller.future.set_exception(error)
            return
        outputs, first = running.result(), 0
        for caller in callers:
            rows = slice(first, first + caller.rows)
            caller.future.set_result({name: output[rows] for name, output in outputs.items()})
            first += caller.rows

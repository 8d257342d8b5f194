"""Which waiting requests run next, at which operating point, and which are refused: decisions alone.

No threads, no clock, no engine: time is handed in, and a batch is a description of what to run.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from regiolect.errors import InvalidSetting
from regiolect.serving.arrivals import Arrivals
from regiolect.serving.forecast import Point, forecast_of

# An engine is kept while its point's forecast is within 10 % of the best one's; it gives way to one that answers a
# single request faster when that one's is within 5 %.
STAY, PREFER = 1.1, 1.05
# Waiting for so many times the best forecast is a surge that the forecast does not know of.
SURGE = 1.5
# The share of the patience that the queue may use up by what is known of it: some batches take longer than others.
FILLED = 0.8
# Weight of the last batch in what batches take here and now, against what they took when they were measured.
SMOOTH = 1 / 16
# A batch counts for no more, nor for less than its inverse: a machine that slept for a minute is not slow.
MOST = 8.0


@dataclass(frozen=True)
class Request:
    """What waits: samples of one caller, all of one shape. Only requests of equal `shape` share a batch."""

    ticket: int
    rows: int
    shape: Hashable


@dataclass(frozen=True)
class Batch:
    """What is to be run at once, on one slot of an engine; `expected` to take so many seconds."""

    point: Point
    requests: tuple[Request, ...]
    rows: int
    began: float
    expected: float


@dataclass(frozen=True)
class _Waiting:
    """What waits of one shape."""

    requests: int = 0
    rows: int = 0

    def seconds(self, point: Point) -> float:
        """How long it takes one slot, in batches of as many whole requests of the mean size as fit."""
        if not self.requests:
            return 0.0
        size = self.rows / self.requests
        full = max(math.floor(point.batch / size), 1)
        batches, left = divmod(self.requests, full)
        return batches * point.takes(round(full * size)) + (point.takes(max(round(left * size), 1)) if left else 0.0)


class Dispatcher:
    """Queue, operating point in use and batches in flight of one served model.

    - A slot that is free takes what waits, in order of arrival; nothing waits for a batch to fill. A batch is an even
      share for each slot of what waits.
    - The point is, of those with about the least forecast 99th percentile at the rate at which requests come, the one
      that answers a single request fastest; its engine is kept until another's forecast is a tenth less. When more
      waits than that rate explains, the point that would empty the queue first is taken until the queue is empty.
    - Points of two engines are never in flight together: what runs ends before the other begins. Points that differ in
      the batch alone change at once.
    - A request is refused if its answer would come after `patience`, so the queue is bounded by patience and rate.

    Attributes:
        point: the one in use.
        switches: how often it changed.
        pace: what a batch takes, over what it took when it was measured.
        waiting: samples that wait.
        flying: samples in batches in flight.
    """

    def __init__(self, points: Sequence[Point], patience: float) -> None:
        """
        Args:
            points: those are left out whose full batches the patience does not allow: whoever comes while all slots are
                busy has to wait for them, and for a batch of his own on each.
            patience: seconds from arrival to answer.

        Raises:
            InvalidSetting: not even the smallest batch is answered in that time, or it has no end.
        """
        if not math.isfinite(patience):
            raise InvalidSetting(
                expected="a patience of so many seconds: it bounds the queue",
                found=f"{patience}",
                remedy="state how long a caller waits for an answer at most",
            )
        usable = [point for point in points if _two_rounds(point) <= FILLED * patience]
        if not usable:
            least = min(map(_two_rounds, points)) / FILLED
            raise InvalidSetting(
                expected=f"a patience of at least {least:.3g} s, in which batches in flight and the next ones are done",
                found=f"{patience:g} s",
                remedy="allow more, or release an engine that answers faster",
            )
        self.points = tuple(usable)
        self.patience = patience
        self._forecast = forecast_of(self.points)
        self._regrets = functools.lru_cache(maxsize=4096)(self._regret)
        self._peak = max(self.points, key=lambda point: point.rate)
        self._arrivals = Arrivals()
        self._queue: deque[Request] = deque()
        self._shapes: dict[Hashable, _Waiting] = {}
        self._work = 0.0
        self._in_flight = 0
        self.point = self._steady = min(self.points, key=_single)
        self._surge: Point | None = None
        self.switches = 0
        self.pace = 1.0
        self.waiting = 0
        self.flying = 0

    @property
    def capacity(self) -> float:
        """Samples per second at the point that gives most, at the present pace."""
        return self._peak.rate / self.pace

    def rate(self, now: float) -> float:
        """Samples per second that come, refused ones among them."""
        return self._arrivals.rate(now)

    def came(self, now: float, rows: int) -> None:
        """A request of `rows` samples came, whatever becomes of it."""
        self._arrivals.add(now, rows)

    def refusal(self, rows: int, shape: Hashable = ()) -> float | None:
        """None if a request may be added now; otherwise the seconds after which it is worth asking again.

        It may be added while its answer is expected within the patience: what flies was begun just now, and what waits
        is computed in as few batches as shapes and sizes allow, at the point that gives most.
        """
        if not self._in_flight and not self._queue:
            return None
        slots, full = self._peak.slots, self._peak.takes(self._peak.batch)
        work = self._work + self._changed(shape, 1, rows)
        # The last batch begins when the first slot is free, and the others may have some of theirs left.
        answer = self.pace * ((self._in_flight * full + work) / slots + (1 - 1 / slots) * full)
        if answer <= FILLED * self.patience:
            return None
        return max(answer - FILLED * self.patience, self.pace * self.point.takes(1))

    def add(self, request: Request) -> None:
        """Put a request that was not refused at the end of the queue."""
        self._queue.append(request)
        self._count(request, 1)

    def next(self, now: float) -> Batch | None:
        """What to run now, taken out of the queue; None if nothing waits, or it has to wait. Ask until it is None."""
        if not self._queue:
            return None
        chosen = self._chosen(now)
        if self._in_flight and (chosen.engine != self.point.engine or self._in_flight >= self.point.slots):
            return None
        if chosen is not self.point:
            self.point = chosen
            self.switches += 1
        requests = self._taken(chosen)
        rows = sum(request.rows for request in requests)
        for request in requests:
            self._count(request, -1)
        self.flying += rows
        expected = chosen.takes(rows, self._in_flight)
        self._in_flight += 1
        return Batch(chosen, requests, rows, now, expected)

    def ended(self, batch: Batch, now: float, *, worked: bool) -> None:
        """A batch is done, well or not."""
        self._in_flight -= 1
        self.flying -= batch.rows
        if worked:
            took = (now - batch.began) / batch.expected
            self.pace += SMOOTH * (min(max(took, 1 / MOST), MOST) - self.pace)

    def _chosen(self, now: float) -> Point:
        # The last that waits leaves the queue at the surge's point yet.
        if self._surge is None or len(self._queue) <= 1:
            self._surge = None
            rate = self._arrivals.rate(now) * self.pace
            steady = self._steadied(rate)
            if self.waiting / steady.rate <= SURGE * min(self._forecast.p99(rate)):
                return steady
        recent = self._arrivals.recent_rate(now) * self.pace
        first = min(self.points, key=lambda point: self._until_empty(point, recent))
        # A surge that grows is met by a point that gives more, and never by one that gives less.
        least = self._steady if self._surge is None else self._surge
        if first.rate > least.rate:
            self._surge = first
        return self._surge or self._steady

    def _steadied(self, rate: float) -> Point:
        """The point for samples that come at `rate`, kept if it is about as good as any."""
        # In steps of a hundredth, so that hardly any has to be worked out twice.
        step = round(100 * math.log(max(rate, 1e-9)))
        regret = self._regrets(step, round(1 / self._arrivals.error()))
        least = min(regret.values())
        good = min((one for one in self.points if regret[one] <= PREFER * least), key=_single)
        # Within an engine a change costs nothing.
        free = good.engine == self._steady.engine
        if free or regret[self._steady] > STAY * least or _single(good) < _single(self._steady):
            self._steady = good
        return self._steady

    def _regret(self, step: int, precision: int) -> dict[Point, float]:
        """Of each point the most that its forecast is above the best one's, at any rate that may be the true one.

        step: a hundred times the logarithm of the rate. precision: one over its standard error.
        """
        rate, regrets = math.exp(step / 100), []
        for possible in (rate * (1 - 1 / precision), rate, rate * (1 + 1 / precision)):
            p99 = self._forecast.p99(possible)
            best = min(p99)
            regrets.append([one / best for one in p99])
        return dict(zip(self.points, map(max, *regrets), strict=True))

    def _until_empty(self, point: Point, rate: float) -> float:
        """Seconds until nobody would wait, as if samples flowed; long, where they come faster than they go."""
        return point.takes(point.share(self.waiting)) + self.waiting / max(point.rate - rate, point.rate / 100)

    def _count(self, request: Request, change: int) -> None:
        """Take a request into the account of what waits, or out of it."""
        self._work += self._changed(request.shape, change, change * request.rows)
        self.waiting += change * request.rows
        kept = self._shapes.get(request.shape, _Waiting())
        self._shapes[request.shape] = _Waiting(kept.requests + change, kept.rows + change * request.rows)
        if not self._shapes[request.shape].requests:
            del self._shapes[request.shape]
        if not self._shapes:
            # What rounding left of it.
            self._work = 0.0

    def _changed(self, shape: Hashable, requests: int, rows: int) -> float:
        """By how many seconds of one slot of the peak's the work that waits would change."""
        kept = self._shapes.get(shape, _Waiting())
        then = _Waiting(kept.requests + requests, kept.rows + rows)
        return then.seconds(self._peak) - kept.seconds(self._peak)

    def _taken(self, point: Point) -> tuple[Request, ...]:
        wanted = point.share(self.waiting)
        first = self._queue.popleft()
        taken, rows, passed = [first], first.rows, []
        while self._queue and rows < wanted:
            request = self._queue.popleft()
            if request.shape != first.shape:
                passed.append(request)
            elif rows + request.rows <= point.batch:
                taken.append(request)
                rows += request.rows
            else:
                passed.append(request)
                break
        self._queue.extendleft(reversed(passed))
        return tuple(taken)


def _two_rounds(point: Point) -> float:
    """Seconds until a full batch for each slot is answered that came while as much had just begun on all of them."""
    return (3 - 1 / point.slots) * point.takes(point.batch)


def _single(point: Point) -> float:
    """Seconds for one sample while nothing else runs."""
    return point.takes(1, beside=0)

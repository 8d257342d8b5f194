"""How long callers would wait at an operating point, by the rate at which requests come.

Each point is played through by itself against arrivals of a Poisson process, by the same rule of batching as a served
model has. Nothing is run: what a batch takes is what was measured of it.
"""

from __future__ import annotations

import bisect
import functools
import heapq
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Near capacity a queue takes thousands of arrivals to become as long as it will be.
FEW, MANY, BUSY = 4000, 16000, 0.75
# Closer together where waiting grows fast.
LOADS = (1e-6, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.96, 0.99)


@dataclass(frozen=True, eq=False)
class Point:
    """A way to run an engine here.

    Attributes:
        engine: which of the loaded engines; points that differ in `batch` alone share one.
        batch: most samples in a batch.
        slots: batches computed side by side.
        seconds: what a batch takes while all slots are busy, by its size; from 1 to `batch`.
        alone: what it takes while no other batch runs.
        name: for people.
    """

    engine: int
    batch: int
    slots: int
    seconds: Mapping[int, float]
    alone: Mapping[int, float]
    name: str

    def takes(self, rows: int, beside: int | None = None) -> float:
        """Seconds for a batch of `rows`, between what was measured on a line.

        beside: other batches in flight when it begins; on all other slots when None.
        """
        together = _on_a_line(self.seconds, rows)
        if beside is None or beside + 1 >= self.slots:
            return together
        alone = _on_a_line(self.alone, rows)
        return alone + beside / (self.slots - 1) * (together - alone)

    @property
    def rate(self) -> float:
        """Samples per second with full batches on all slots."""
        return self.slots * self.batch / self.takes(self.batch)

    def share(self, waiting: int) -> int:
        """Samples that the next batch takes of those that wait: an even share for each slot, at most `batch`.

        A batch that took them all would make the last of them no faster, and the first of them as slow as the last.
        """
        return min(self.batch, -(-waiting // self.slots))


def _on_a_line(seconds: Mapping[int, float], rows: int) -> float:
    """Between two sizes in `seconds` on a line; beyond the largest in proportion."""
    if rows in seconds:
        return seconds[rows]
    sizes = sorted(seconds)
    place = bisect.bisect(sizes, rows)
    if place in (0, len(sizes)):
        nearest = sizes[max(place - 1, 0)]
        return seconds[nearest] * max(rows / nearest, 1.0)
    below, above = sizes[place - 1], sizes[place]
    return seconds[below] + (rows - below) / (above - below) * (seconds[above] - seconds[below])


class Forecast:
    """The 99th percentile of every point's answers, in seconds, by the rate of requests."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._capacity = max(point.rate for point in points)
        # The same arrivals for every point and rate: what differs is the point.
        chance = random.Random(0)  # noqa: S311 - a simulation, no secret
        gaps = [chance.expovariate(1.0) for _ in range(MANY)]
        self._logs = [
            [math.log(played(point, load * self._capacity, gaps if load >= BUSY else gaps[:FEW])) for load in LOADS]
            for point in points
        ]

    def p99(self, rate: float) -> list[float]:
        """Of each point, at `rate` samples per second; past the points' capacity, as just below it."""
        load = min(max(rate / self._capacity, LOADS[0]), LOADS[-1])
        above = max(bisect.bisect_left(LOADS, load), 1)
        share = (load - LOADS[above - 1]) / (LOADS[above] - LOADS[above - 1])
        return [math.exp(logs[above - 1] * (1 - share) + logs[above] * share) for logs in self._logs]


@functools.lru_cache(maxsize=8)
def forecast_of(points: tuple[Point, ...]) -> Forecast:
    """The forecast of these very points: playing them through takes a second, opening them again need not."""
    return Forecast(points)


def played(point: Point, rate: float, gaps: Sequence[float]) -> float:
    """The 99th percentile of the time from arrival to answer, in seconds, of single samples served at one point.

    Args:
        rate: arrivals per second.
        gaps: between arrivals, in units of their mean.
    """
    takes = [[point.takes(rows, beside) for rows in range(point.batch + 1)] for beside in range(point.slots)]
    arrivals = [after / rate for after in itertools.accumulate(gaps)]
    ends: list[float] = []
    waits: list[float] = []
    arrived = 0
    while len(waits) < len(arrivals):
        if arrived < len(arrivals) and (not ends or arrivals[arrived] <= ends[0]):
            now = arrivals[arrived]
            arrived += 1
        else:
            now = heapq.heappop(ends)
        while len(waits) < arrived and len(ends) < point.slots:
            rows = point.share(arrived - len(waits))
            end = now + takes[len(ends)][rows]
            heapq.heappush(ends, end)
            waits.extend(end - arrival for arrival in arrivals[len(waits) : len(waits) + rows])
    return sorted(waits)[math.ceil(0.99 * len(waits)) - 1]

"""How often samples come, as far as the last ones tell."""

from __future__ import annotations

import math
from collections import deque

# What is older than AGE seconds is forgotten, as long as LEAST are left, of which the rate is known within 3 %.
AGE = 30.0
LEAST, MOST = 1024, 16384
RECENT = 128
# Load that stays the same hardly ever looks so: it takes about four standard errors of the last RECENT requests' time.
CHANGED = 1.5


class Arrivals:
    """The rate at which samples come. Time is handed in, in seconds on any clock.

    It is taken over the last 30 seconds, or 1,024 requests if that is longer, so that it hardly moves while the load
    stays what it is. Once the last 128 came half as fast again, or that much slower, the older ones are forgotten.
    """

    def __init__(self) -> None:
        self._times: deque[tuple[float, int]] = deque()
        self._rows = 0
        self._recent_rows = 0

    def add(self, now: float, rows: int) -> None:
        """A request of `rows` samples came."""
        self._times.append((now, rows))
        self._rows += rows
        self._recent_rows += rows
        if len(self._times) > RECENT:
            self._recent_rows -= self._times[-RECENT - 1][1]
        while len(self._times) > MOST or (len(self._times) > LEAST and now - self._times[0][0] > AGE):
            self._rows -= self._times.popleft()[1]

    def rate(self, now: float) -> float:
        """Samples per second; 0 before three requests came."""
        recent = self.recent_rate(now)
        if len(self._times) <= RECENT:
            return recent
        rate = self._rows / max(now - self._times[0][0], 1e-9)
        if rate / CHANGED <= recent <= rate * CHANGED:
            return rate
        while len(self._times) > RECENT:
            self._times.popleft()
        self._rows = self._recent_rows
        return recent

    def error(self) -> float:
        """The standard error of `rate`, as a share of it, were arrivals independent of each other."""
        return 1 / math.sqrt(max(len(self._times), 4))

    def recent_rate(self, now: float) -> float:
        """Samples per second over the last 128 requests at most; 0 before three came."""
        if len(self._times) < 3:
            return 0.0
        first = self._times[-min(RECENT, len(self._times))][0]
        return self._recent_rows / max(now - first, 1e-9)

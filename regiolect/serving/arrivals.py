"""How often samples come, as far as the last ones tell."""

from __future__ import annotations

from collections import deque

# The rate of so many is known within 3 %, as one standard error; of RECENT, within 13 %.
MOST = 1024
RECENT = 64
# Four standard errors of the recent rate: load that does not change reaches that in one window out of thousands.
CHANGED = 1.5


class Arrivals:
    """The rate at which samples come. Time is handed in, in seconds on any clock.

    It is taken over the last 1,024 requests, so that it hardly moves while the load stays what it is; once the last 64
    came at half as fast again or slow again, the older ones are forgotten.
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
        while len(self._times) > MOST:
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

    def recent_rate(self, now: float) -> float:
        """Samples per second over the last 64 requests at most; 0 before three came."""
        if len(self._times) < 3:
            return 0.0
        first = self._times[-min(RECENT, len(self._times))][0]
        return self._recent_rows / max(now - first, 1e-9)

"""How long a test waits for what another process does: only a hang takes so long, however loaded the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 600.0


def until(reached: Callable[[], object], every: float = 0.5) -> None:
    """Look every so many seconds, and return once it is so."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s"
        time.sleep(every)

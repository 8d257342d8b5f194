"""Memory of children: resident, of all that they started, each page once."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest

from regiolect.host import isolated
from regiolect.host.isolated import Child, Limits
from tests.unit.host.children import AMPLE, MIB, add, crashed, hang

pytestmark = pytest.mark.slow


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def take(size: int) -> None:
    taken = bytearray(size)
    taken[:: mmap.PAGESIZE] = b"x" * len(taken[:: mmap.PAGESIZE])
    hang()


_KEPT: list[bytearray] = []


def keep(size: int) -> None:
    """As a library that gives nothing back between two calls."""
    _KEPT.append(bytearray(size))
    _KEPT[-1][:: mmap.PAGESIZE] = b"x" * len(_KEPT[-1][:: mmap.PAGESIZE])


def reserve(size: int) -> None:
    """Addresses without memory behind them, as CUDA does."""
    mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
    time.sleep(0.5)


def have_another_take(size: int) -> None:
    taking = f"import signal; taken = bytearray({size}); taken[::4096] = b'x' * len(taken[::4096]); signal.pause()"
    subprocess.run([sys.executable, "-c", taking], check=False, timeout=240)


def fork_and_share(size: int, times: int) -> str:
    """As a metric that loads its data in workers: each has the same pages resident."""
    taken = bytearray(size)
    taken[:: mmap.PAGESIZE] = b"x" * len(taken[:: mmap.PAGESIZE])
    forks = []
    for _ in range(times):
        fork = os.fork()
        if not fork:
            hang()
        forks.append(fork)
    time.sleep(1)
    for fork in forks:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)
    return "shared"


def test_memory_is_limited_as_it_is_resident_not_as_it_is_addressed() -> None:
    with Child("eu on cpu", AMPLE) as made:
        limit = made.run(resident) + 256 * MIB
    with Child("eu on cpu", Limits(limit, seconds=240)) as made:
        made.run(reserve, 1 << 36)
        # What it shares with others counts in part, so that it has less than it says.
        error = crashed(made, take, 2 * limit)
    assert f"more than {limit / 2**30:.3g} GiB of memory resident" in error.found
    assert "REGIOLECT_CHILD_MEMORY_GIB" in error.remedy


def test_memory_of_a_process_that_a_child_started_is_the_childs() -> None:
    with Child("eu on cpu", Limits(700 * MIB, seconds=120)) as made:
        assert "more than 0.684 GiB of memory resident" in crashed(made, have_another_take, 800 * MIB).found


def test_what_forks_share_counts_once() -> None:
    with Child("eu on cpu", Limits(1000 * MIB, seconds=120)) as made:
        assert made.run(fork_and_share, 300 * MIB, 6) == "shared"


def test_what_was_ended_while_it_was_counted_is_counted_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be taken for the one that has most for good, and its number may become another process's."""
    with Child("eu on cpu", AMPLE) as made:

        def resident(group: int, *, exact: bool = False) -> int:
            made.kill()
            return 900 * MIB

        monkeypatch.setattr(isolated, "resident", resident)
        # As if another thread had ended it: what the call comes to is not what this is about.
        with suppress(Exception):
            made.run(hang)
    assert isolated._running == {}


def test_of_all_children_that_have_too_much_together_the_largest_ends() -> None:
    limits = Limits(AMPLE.memory_bytes, seconds=120, together_bytes=1200 * MIB)

    outcomes: list[BaseException] = []

    def take_until_killed(made: Child) -> None:
        # From another thread, at any point of its call.
        try:
            made.run(take, 500 * MIB)
        except BaseException as error:  # noqa: BLE001
            outcomes.append(error)

    with Child("small", limits) as small, Child("large", limits) as large:
        other = threading.Thread(target=take_until_killed, args=(small,))
        other.start()
        ended = crashed(large, take, 900 * MIB)
        assert "it had most of more than 1.17 GiB of memory" in ended.found, outcomes
        assert "PREFECT_TASK_RUNNER_THREAD_POOL_MAX_WORKERS" in ended.remedy
        assert outcomes == [], "the smaller one goes on"
        small.kill()
        other.join(60)


def test_one_that_serves_no_call_does_not_stand_for_the_largest() -> None:
    """Nobody looks at its memory, so that none would be ended."""
    limits = Limits(AMPLE.memory_bytes, seconds=20, together_bytes=1200 * MIB)
    with Child("idle", limits) as idle, Child("busy", limits) as busy:
        idle.run(keep, 900 * MIB)
        assert "it had most of more than 1.17 GiB of memory" in crashed(busy, take, 500 * MIB).found
        assert idle.run(add, 1, 1) == 2

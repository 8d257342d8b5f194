"""The pipe to a child, whatever holds its other end, and the clock of a call."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from regiolect.host import child as child_side
from regiolect.host.child import off_the_clock
from regiolect.host.isolated import Child, Limits
from tests.unit.host.children import AMPLE, MIB, add, crashed, die_by, hang, pid

pytestmark = pytest.mark.slow


def fork_in_python() -> int:
    """As a loader of data in workers."""
    number = os.fork()
    if not number:
        logging.getLogger("vendors").warning("of the fork")
        with off_the_clock():
            hang()
    return os.getpid()


def fork_in_a_library() -> int:
    library = ctypes.PyDLL(None)
    if not library.fork():
        library.pause()
    return os.getpid()


def die_while_it_answers(fork: Callable[[], int]) -> bytes:
    fork()
    answer = bytes(64 * MIB)

    def die() -> None:
        sending = child_side._to_parent
        while sending is None or not sending._lock.locked():
            time.sleep(0.0005)
        die_by(signal.SIGKILL)

    threading.Thread(target=die, daemon=True).start()
    return answer


def length(answer: bytes) -> int:
    return len(answer)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("fork", [fork_in_python, fork_in_a_library])
def test_a_child_that_dies_while_it_answers_is_not_waited_for_though_a_fork_holds_its_pipe(
    child: Child, fork: Callable[[], int]
) -> None:
    assert crashed(child, die_while_it_answers, fork).found == "its process died by SIGKILL"


@pytest.mark.timeout(200)
@pytest.mark.parametrize("fork", [fork_in_python, fork_in_a_library])
def test_a_call_to_a_child_that_died_ends_though_a_fork_holds_its_pipe(child: Child, fork: Callable[[], int]) -> None:
    os.kill(child.run(fork), signal.SIGKILL)
    assert crashed(child, length, bytes(10 * MIB)).found == "its process died by SIGKILL"


@pytest.mark.timeout(200)
def test_a_call_that_a_stopped_child_does_not_read_ends_at_the_limit(child: Child) -> None:
    os.kill(child.run(pid), signal.SIGSTOP)
    child.limits = Limits(AMPLE.memory_bytes, seconds=0.6)
    assert "no answer within" in crashed(child, length, bytes(10 * MIB)).found


def test_what_is_large_arrives_as_it_was(child: Child) -> None:
    assert child.run(length, bytes(10 * MIB)) == 10 * MIB
    assert child.run(bytes, 10 * MIB) == bytes(10 * MIB)
    assert child.run(add, 1, 1) == 2


def two_wait() -> str:
    begun, first_is_done = threading.Barrier(2), threading.Event()

    def short() -> None:
        with off_the_clock():
            begun.wait()
        first_is_done.set()

    other = threading.Thread(target=short)
    with off_the_clock():
        other.start()
        begun.wait()
        first_is_done.wait()
        time.sleep(2)
    return "had its turn"


def test_the_clock_stands_still_until_the_last_thread_has_waited(child: Child) -> None:
    child.run(pid)
    child.limits = Limits(AMPLE.memory_bytes, seconds=1)
    with off_the_clock():
        assert child.run(two_wait) == "had its turn"

"""Ctrl-C and SIGTERM, on real processes: what is said, with which code it ends, how soon, and who is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from regiolect.host.interrupts import FAREWELL_SECONDS, MESSAGE, answering
from tests.patience import PATIENCE

SECONDS = 5.0
# Each says `ready PID...`, the processes that it started, and then does what no signal of its own accord ends.
COMPUTES = "import ctypes; print('ready', flush=True); ctypes.CDLL(None).sleep(600)"
STARTS = """
import subprocess, sys, time
started = "import subprocess, time; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); time.sleep(600)"
python = {"args": [sys.executable, "-c", started], "stdout": subprocess.PIPE, "text": True}
children = [subprocess.Popen(**python), subprocess.Popen(**python, start_new_session=True)]
print("ready", *(child.pid for child in children), *(int(child.stdout.readline()) for child in children), flush=True)
time.sleep(600)
"""
FORKS = """
import os, signal, time
reads, writes = os.pipe()
child = os.fork()
if child == 0:
    os.write(writes, b"!")
    time.sleep(600)
os.read(reads, 1)
os.kill(child, signal.SIGTERM)
print("ready", -os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
time.sleep(600)
"""
SPARES = """
import subprocess, time
from regiolect.host.interrupts import spare
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
child = subprocess.Popen(["sleep", "600"], start_new_session=True, **quiet)
spare(child.pid)
print("ready", child.pid, flush=True)
time.sleep(600)
"""
SAYS_FAREWELL = """
import threading, time
from regiolect.host.interrupts import farewell
with farewell(lambda: threading.Event().wait()), farewell(lambda: print("farewell", flush=True)):
    print("ready", flush=True)
    time.sleep(600)
"""


@dataclass
class Command:
    """A process that does some work while it answers signals; `told` is what it said when it was ready."""

    process: subprocess.Popen[str]
    told: list[int]

    def interrupted(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Exit code, and seconds until it ended."""
        begin = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(60), time.monotonic() - begin

    def stdout(self) -> str:
        return (self.process.stdout or sys.stdin).readline().strip()

    def stderr(self) -> str:
        return (self.process.stderr or sys.stdin).read().strip()


Start = Callable[..., Command]


@pytest.fixture
def command() -> Iterator[Start]:
    """Starts a command; whatever it started is killed after the test."""
    with ExitStack() as stack:

        def start(work: str, **how: Any) -> Command:
            program = f"from regiolect.host.interrupts import answering\nanswering(lambda: exec({work!r}, {{}}))"
            pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            # Tests that run in the background of a script have SIGINT ignored, and so would whatever they start.
            how = {"preexec_fn": _answer} | how
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", program], text=True, **pipes, **how))
            stack.callback(process.kill)
            started = Command(process, [])
            word, *told = started.stdout().split()
            started.told += map(int, told)
            for pid in started.told:
                stack.callback(_kill, pid)
            assert word == "ready"
            return started

        yield start


def _kill(pid: int) -> None:
    if pid > 0:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_in_the_middle_of_a_librarys_call_ends_at_once_and_says_so(
    command: Start, number: int, code: int
) -> None:
    started = command(COMPUTES)
    ended, seconds = started.interrupted(number)
    assert (ended, started.stderr()) == (code, MESSAGE)
    assert seconds < SECONDS


def test_no_process_that_it_started_is_left_whatever_its_session(command: Start) -> None:
    started = command(STARTS)
    assert len(started.told) == 4
    assert started.interrupted()[0] == 130
    assert all(map(is_gone, started.told))


def test_a_process_that_is_to_outlive_it_is_left_alone(command: Start) -> None:
    started = command(SPARES)
    assert started.interrupted()[0] == 130
    assert not is_gone(started.told[0])


def test_a_forked_process_dies_of_the_signal_without_a_word(command: Start) -> None:
    started = command(FORKS)
    assert started.told == [-signal.SIGTERM]
    started.interrupted()
    assert started.stderr() == MESSAGE


def test_a_server_that_does_not_answer_is_not_waited_for(command: Start) -> None:
    started = command(SAYS_FAREWELL)
    code, seconds = started.interrupted(signal.SIGTERM)
    assert code == 143
    assert seconds < SECONDS
    assert started.stdout() == "farewell"


def test_a_second_one_ends_it_at_once_and_the_echo_of_the_first_does_not(command: Start) -> None:
    started = command(SAYS_FAREWELL)
    begin = time.monotonic()
    # A terminal and `timeout` may both pass one on: the farewell is said all the same.
    started.process.send_signal(signal.SIGINT)
    started.process.send_signal(signal.SIGINT)
    assert started.stdout() == "farewell"
    while started.process.poll() is None:
        # As a person does whose patience is at its end.
        time.sleep(0.4)
        started.process.send_signal(signal.SIGINT)
    assert started.process.returncode == 130
    assert time.monotonic() - begin < FAREWELL_SECONDS


def test_a_signal_that_was_ignored_still_is(command: Start) -> None:
    started = command("print('ready', flush=True); input()", preexec_fn=_ignore)
    started.process.send_signal(signal.SIGINT)
    _, said = started.process.communicate("\n", timeout=PATIENCE)
    assert (started.process.returncode, said) == (0, "")


def _answer() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _ignore() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_what_the_work_returns_or_raises_is_passed_on_and_the_signals_are_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert answering(lambda: 42) == 42
    with pytest.raises(SystemExit) as caught:
        answering(lambda: sys.exit(3))
    assert caught.value.code == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_help_loads_nothing_for_it() -> None:
    told = "import sys, regiolect.host.interrupts; print('psutil' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

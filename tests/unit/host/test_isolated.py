"""What happens in a child stays there, is told by its name, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from regiolect.host.child import off_the_clock
from regiolect.host.interrupts import answering, farewell
from regiolect.host.isolated import Child, Limits
from regiolect.host.lock import whole_machine
from tests.unit.host.children import AMPLE, add, crashed, die_by, hang, pid

pytestmark = pytest.mark.slow


def leave() -> None:
    sys.exit(7)


def work_until_interrupted(folder: Path) -> None:
    # The fork server may be of a run of the tests in the background of a script, where it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def work() -> None:
        (folder / "begun").touch()
        threading.Event().wait()

    with farewell((folder / "told").touch):
        answering(work)


def hang_with_the_lock() -> None:
    """As a library that never gives the interpreter's lock back."""
    ctypes.PyDLL(None).pause()


def wait_for_others(seconds: float) -> str:
    with off_the_clock():
        time.sleep(seconds)
    return "had its turn"


def hold_the_machine() -> None:
    with whole_machine():
        die_by(signal.SIGKILL)


def start_another_and_hang(file: Path) -> None:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    file.write_text(str(started.pid))
    hang()


def start_another(file: Path, then: Callable[..., None] | None = None, *args: int) -> None:
    file.write_text(str(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]).pid))
    if then is not None:
        then(*args)


def end_the_fork_server_and_hang() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    hang()


def test_a_call_answers_and_the_next_one_finds_the_same_child(child: Child) -> None:
    assert child.run(add, 1, 2, times=3) == 9
    assert child.run(pid) == child.run(pid) != os.getpid()


def test_each_of_the_threads_that_call_a_child_gets_its_own_answer(child: Child) -> None:
    answers: list[bool] = []

    def call(one: int) -> None:
        for two in range(20):
            answer = child.run(add, one, two)
            answers.append(answer == one + two)

    callers = [threading.Thread(target=call, args=(number * 1000,)) for number in range(3)]
    for each in callers:
        each.start()
    for each in callers:
        each.join(120)
    assert answers == [True] * 60


def test_a_child_sees_what_its_parent_set_after_the_fork_server_started(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Child("the first", AMPLE) as first:
        first.run(pid)
    monkeypatch.setenv("SET_LATER", "yes")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users_own_module.py").write_text(
        "from os import getenv, getcwd\ndef told(): return getenv('SET_LATER'), getcwd()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    told = __import__("users_own_module").told
    assert child.run(told) == ("yes", str(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_told_by_its_signal_in_the_same_words_each_time(child: Child, number: signal.Signals) -> None:
    first = crashed(child, die_by, number)
    assert first.found == f"its process died by {number.name}"
    assert "'die_by' of eu on cpu" in first.expected
    assert str(crashed(child, die_by, number)) == str(first)
    assert child.run(add, 1, 1) == 2, "the next call has a child again"


def test_a_child_that_leaves_is_told_by_its_exit_code(child: Child) -> None:
    assert crashed(child, leave).found == "its process ended with exit code 7"


@pytest.mark.parametrize("how", [hang, hang_with_the_lock])
def test_a_hang_ends_at_the_limit(how: Callable[[], None]) -> None:
    with Child("eu on cpu", Limits(AMPLE.memory_bytes, seconds=0.6)) as made:
        error = crashed(made, how)
    assert "no answer within 0.01 minutes, its limit" in error.found
    assert "REGIOLECT_CHILD_MINUTES" in error.remedy


def test_waiting_for_others_is_no_hang() -> None:
    with off_the_clock(), Child("eu on cpu", AMPLE) as made:
        made.run(pid)
        made.limits = Limits(AMPLE.memory_bytes, seconds=0.6)
        assert made.run(wait_for_others, 1.5) == "had its turn"
        assert "no answer" in crashed(made, hang).found


def test_the_processes_that_a_child_started_end_with_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with Child("eu on cpu", Limits(AMPLE.memory_bytes, seconds=3)) as made:
        crashed(made, start_another_and_hang, file)
    assert_gone(int(file.read_text()))


@pytest.mark.parametrize(("how", "args"), [(die_by, (signal.SIGSEGV,)), (leave, ())])
def test_the_processes_that_a_child_started_end_after_its_crash(
    tmp_path: Path, how: Callable[..., None], args: tuple[int, ...]
) -> None:
    with Child("eu on cpu", AMPLE) as made:
        crashed(made, start_another, tmp_path / "pid", how, *args)
        assert_gone(int((tmp_path / "pid").read_text()))


def test_the_processes_that_a_child_started_end_when_it_leaves(tmp_path: Path) -> None:
    with Child("eu on cpu", AMPLE) as made:
        made.run(start_another, tmp_path / "pid")
    assert_gone(int((tmp_path / "pid").read_text()))


def test_a_child_ends_also_where_its_fork_server_died_before_it() -> None:
    with Child("eu on cpu", AMPLE) as made:
        number = made.run(pid)
        crashed(made, end_the_fork_server_and_hang)
        assert_gone(number)
        assert made.run(pid) != number, "the next call has a child again"


def test_a_lock_of_the_machine_does_not_stay_behind(child: Child) -> None:
    crashed(child, hold_the_machine)
    with whole_machine():
        assert child.run(add, 1, 1) == 2


class Deadline(Exception):
    """As the orchestrator sends it into the thread that waits."""


# A script's own alarm raises the other one, which is an OSError, as what a broken pipe answers is.
@pytest.mark.parametrize("kind", [Deadline, TimeoutError])
def test_an_exception_from_outside_ends_the_wait_and_the_child(child: Child, kind: type[Exception]) -> None:
    ended: list[BaseException] = []
    at_work = child.run(pid)

    def wait() -> None:
        try:
            child.run(hang)
        except kind as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(waiting.ident or 0), ctypes.py_object(kind))
    waiting.join(60)
    assert len(ended) == 1
    assert_gone(at_work)


def assert_gone(number: int) -> None:
    """Within a minute, by then a zombie of whoever started it at most."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.02)
    pytest.fail(f"process {number} is still there")


def script(folder: Path, text: str) -> subprocess.Popen[str]:
    """A script of a user's, without a guard for `__main__`."""
    file = folder / "script.py"
    file.write_text(
        "import os, threading\n"
        "from regiolect.host.isolated import Child, Limits, end_children\n"
        "from tests.unit.host import test_isolated as ours\n"
        f"child = Child('a script', Limits(1 << 36, 240))\n{text}"
    )
    return subprocess.Popen(
        [sys.executable, file],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_script_without_a_guard_is_run_once(tmp_path: Path) -> None:
    with script(tmp_path, "print(child.run(ours.add, 1, 2))") as running:
        assert running.communicate(timeout=120)[0] == "3\n"
    assert running.returncode == 0


def test_a_temporary_folder_in_which_no_socket_can_be_made_is_told(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    text = f"""
os.environ["TMPDIR"] = {str(deep)!r}
try:
    child.run(ours.pid)
except Exception as error:
    print(type(error).__name__, error.found, "|", error.remedy)
"""
    with script(tmp_path, text) as running:
        told, _ = running.communicate(timeout=120)
    assert told.startswith("EngineCrashed AF_UNIX path too long (OSError) | ")
    assert "TMPDIR" in told and "at most 70 characters" in told


@pytest.mark.parametrize("how", ["hang", "hang_with_the_lock"])
def test_a_killed_parent_takes_its_child_and_the_fork_server_along(tmp_path: Path, how: str) -> None:
    with script(tmp_path, f"print(child.run(ours.pid), flush=True)\nchild.run(ours.{how})") as running:
        assert running.stdout is not None
        number = int(running.stdout.readline())
        server = psutil.Process(number).ppid()
        running.kill()
        assert_gone(number)
        assert_gone(server)


def test_a_killed_parent_takes_along_what_its_child_started(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    start = f"child.run(ours.start_another, ours.Path({str(started)!r}))"
    with script(tmp_path, f"{start}\nprint(flush=True)\nchild.run(ours.hang)") as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.kill()
    assert_gone(int(started.read_text()))


def test_all_children_can_be_ended_at_once_and_none_begins_after_that(tmp_path: Path) -> None:
    text = """
def wait():
    try:
        child.run(ours.hang)
    except KeyboardInterrupt:
        print("interrupted", flush=True)

number = child.run(ours.pid)
waiting = threading.Thread(target=wait)
waiting.start()
end_children()
waiting.join(60)
try:
    Child("a late one", child.limits).run(ours.pid)
except KeyboardInterrupt:
    print("not begun", number, flush=True)
"""
    with script(tmp_path, text) as running:
        told, _ = running.communicate(timeout=120)
    assert told.startswith("interrupted\nnot begun ")
    assert_gone(int(told.split()[-1]))


def test_a_child_that_ctrl_c_ends_says_its_last_words_first_where_it_has_the_time(tmp_path: Path) -> None:
    def interrupt() -> None:
        until = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    # Tests in the background of a script ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Child("an example", AMPLE, farewell=60) as child:
            number = child.run(pid)
            threading.Thread(target=interrupt).start()
            with pytest.raises(KeyboardInterrupt):
                child.run(work_until_interrupted, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "begun").exists()
    assert (tmp_path / "told").exists()
    assert_gone(number)

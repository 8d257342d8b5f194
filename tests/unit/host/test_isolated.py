"""What happens in a child stays there, is told by its name, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from regiolect import progress
from regiolect.errors import EngineCrashed, ParityFailed, RegiolectError
from regiolect.host import child as child_side
from regiolect.host import isolated
from regiolect.host.child import off_the_clock
from regiolect.host.interrupts import answering, farewell
from regiolect.host.isolated import Child, Limits
from regiolect.host.lock import whole_machine

pytestmark = pytest.mark.slow

AMPLE = Limits(memory_bytes=1 << 36, seconds=240)
MIB = 1 << 20
PLANTED = "planted-0815"


# Runs in a child: it has to be found in this module by name.


def add(one: int, two: int, times: int = 1) -> int:
    return (one + two) * times


def pid() -> int:
    return os.getpid()


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def die_by(number: int) -> None:
    if number == signal.SIGSEGV:
        ctypes.string_at(0)
    os.kill(os.getpid(), number)


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


def hang() -> None:
    threading.Event().wait()


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


def start_another_and_hang(file: Path) -> None:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    file.write_text(str(started.pid))
    hang()


def start_another(file: Path, then: Callable[..., None] | None = None, *args: int) -> None:
    file.write_text(str(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]).pid))
    if then is not None:
        then(*args)


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


def end_the_fork_server_and_hang() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    hang()


def answer_what_cannot_be_sent() -> Any:
    return threading.Lock()


def refuse() -> None:
    try:
        raise ZeroDivisionError("of the vendor's")  # at s3://me:hunter2-hunter2@host/bucket
    except ZeroDivisionError as error:
        raise ParityFailed("this", "that", "do so") from error


def refuse_with_secrets() -> None:
    try:
        raise ValueError(f"401 for url: https://bot:{PLANTED}@host/x")
    except ValueError as error:
        error.add_note(f"tried with password={PLANTED}")
        raise ParityFailed("this", str(error), "do so") from error


def raise_a_secret() -> None:
    raise OSError(401, "no", f"https://host/x?token={PLANTED}")


class Unsendable(Exception):
    def __init__(self, number: int, *, lock: Any) -> None:
        super().__init__(f"number {number}")
        self.lock = lock


def raise_what_cannot_be_sent() -> None:
    raise Unsendable(3, lock=threading.Lock())


def speak() -> str:
    progress.note("half of it")
    progress.logger.info("all of it, %d", 2)
    warnings.warn("old data", UserWarning, stacklevel=1)
    return "done"


@pytest.fixture
def child() -> Iterator[Child]:
    with Child("eu on cpu", AMPLE) as made:
        yield made


def crashed(made: Child, function: Callable[..., Any], *args: Any) -> EngineCrashed:
    with pytest.raises(EngineCrashed) as caught:
        made.run(function, *args)
    return caught.value


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


def test_an_error_comes_whole_with_its_cause_and_leaves_the_child_alone(child: Child) -> None:
    before = child.run(pid)
    with pytest.raises(ParityFailed) as caught:
        child.run(refuse)
    error = caught.value
    assert (error.expected, error.found, error.remedy) == ("this", "that", "do so")
    assert repr(error.__cause__) == 'ZeroDivisionError("of the vendor\'s")'
    assert "in refuse" in error.__notes__[0], "where it was raised"
    assert "hunter2" not in error.__notes__[0]
    assert child.run(pid) == before


def test_an_error_that_cannot_be_sent_keeps_its_name_and_text(child: Child) -> None:
    with pytest.raises(RuntimeError, match="number 3") as caught:
        child.run(raise_what_cannot_be_sent)
    assert type(caught.value).__name__ == "Unsendable"


def test_what_is_logged_and_warned_of_comes_out_of_the_parent(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "regiolect.progress")
    assert child.run(speak) == "done"
    assert [record.message for record in caplog.records if record.name == "regiolect.progress"] == [
        "half of it",
        "all of it, 2",
    ]
    assert "UserWarning: old data" in caplog.text


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


def test_memory_is_limited_as_it_is_resident_not_as_it_is_addressed() -> None:
    with Child("eu on cpu", AMPLE) as made:
        limit = made.run(resident) + 256 * MIB
    with Child("eu on cpu", Limits(limit, seconds=240)) as made:
        made.run(reserve, 1 << 36)
        error = crashed(made, take, 400 * MIB)
    assert f"more than {limit / 2**30:.3g} GiB of memory resident" in error.found
    assert "REGIOLECT_CHILD_MEMORY_GIB" in error.remedy


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


def test_an_answer_that_cannot_be_sent_is_no_crash(child: Child) -> None:
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        child.run(answer_what_cannot_be_sent)
    assert child.run(add, 1, 1) == 2


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


def test_the_error_is_one_of_an_engine() -> None:
    assert issubclass(EngineCrashed, RegiolectError)


@pytest.mark.parametrize(
    ("stage", "kind", "shown"),
    [
        (refuse_with_secrets, ParityFailed, "https://bot:***@host/x"),
        (raise_a_secret, RuntimeError, "https://host/x?token=***"),
    ],
)
def test_neither_an_error_nor_its_causes_bring_a_secret_to_the_parent(
    child: Child, stage: Callable[[], None], kind: type[BaseException], shown: str
) -> None:
    with pytest.raises(kind) as raised:
        child.run(stage)
    told = "".join(traceback.format_exception(raised.value))
    assert PLANTED not in told
    assert shown in str(raised.value)
    assert "ValueError" in told or type(raised.value).__name__ == "OSError"


class SaysNothing(ValueError):
    def __str__(self) -> str:
        raise RuntimeError("its own code")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("its own code")

    __hash__ = None  # type: ignore[assignment]


class Ends(KeyboardInterrupt):
    pass


def raise_after_a_secret(kind: type[BaseException]) -> None:
    try:
        raise ConnectionError(f"no answer of postgresql://me:{PLANTED}@db/x")
    except ConnectionError as error:
        raise kind(f"password='{PLANTED}'") from error


def raise_after_thousands() -> None:
    error: Exception | None = None
    for number in range(5_000):
        link = ValueError(f"attempt {number}")
        link.__cause__, error = error, link
    raise RuntimeError("no attempt was left") from error


@pytest.mark.parametrize("kind", [SaysNothing, KeyboardInterrupt, GeneratorExit, Ends, SystemExit])
def test_an_error_of_any_kind_comes_by_its_name_and_nothing_of_it_is_printed(
    child: Child, kind: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    before = child.run(pid)
    with pytest.raises(RuntimeError) as raised:
        child.run(raise_after_a_secret, kind)
    assert type(raised.value).__name__ == kind.__name__
    assert type(raised.value.__cause__).__name__ == "ConnectionError"
    assert child.run(pid) == before, "it is no crash"
    child.close()
    told = "".join(traceback.format_exception(raised.value)) + capfd.readouterr().err
    assert "in raise_after_a_secret" in told
    assert PLANTED not in told


def test_thousands_of_causes_are_told_by_the_nearest(child: Child) -> None:
    with pytest.raises(RuntimeError, match="no attempt was left") as raised:
        child.run(raise_after_thousands)
    told = "".join(traceback.format_exception(raised.value))
    assert "attempt 4999" in told
    assert "attempt 1000" not in told


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


class MakesNoError(Exception):
    def __reduce__(self) -> tuple[object, ...]:
        return (dict, ())


class WordsItself(Exception):
    def __init__(self, status: int | str) -> None:
        super().__init__(f"HTTP {status}")


class LetsNothingBeSet(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


def fail_as(kind: type[Exception], text: str) -> None:
    raise kind(text) from ZeroDivisionError("why")


def fail_by_a_module_of_its_own(folder: Path) -> None:
    (folder / "only_in_the_child.py").write_text("class Err(Exception): pass")
    sys.path.insert(0, str(folder))
    raise __import__("only_in_the_child").Err("the device is on fire")


@pytest.mark.parametrize(
    ("kind", "text", "shown"),
    [
        (MakesNoError, "as it was", "as it was"),
        (WordsItself, "404", "HTTP 404"),
        (LetsNothingBeSet, "frozen", "frozen"),
        (KeyError, "a", "'a'"),
    ],
)
def test_an_error_has_its_name_its_text_and_its_cause_whatever_its_own_code_does(
    child: Child, kind: type[Exception], text: str, shown: str
) -> None:
    with pytest.raises(Exception, match=text) as raised:
        child.run(fail_as, kind, text)
    assert (type(raised.value).__name__, str(raised.value)) == (kind.__name__, shown)
    assert repr(raised.value.__cause__) == "ZeroDivisionError('why')"
    assert "in fail_as" in "".join(raised.value.__notes__)


def test_an_error_of_a_module_that_only_the_child_has_comes_by_its_name(child: Child, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="the device is on fire") as raised:
        child.run(fail_by_a_module_of_its_own, tmp_path)
    assert type(raised.value).__name__ == "Err"
    assert child.run(add, 1, 1) == 2


def fail_together() -> None:
    error = ValueError("one of two")
    error.add_note(f"password={PLANTED}")
    raise ExceptionGroup("two failed", [error, WordsItself(404)])


def test_members_of_a_group_bring_no_secret_to_the_parent(child: Child) -> None:
    with pytest.raises(Exception, match="two failed") as raised:
        child.run(fail_together)
    told = "".join(traceback.format_exception(raised.value))
    assert PLANTED not in told
    assert "ValueError: one of two" in told
    assert "WordsItself: HTTP 404\n" in told


def log_what_cannot_be_sent() -> int:
    logging.getLogger("vendors").warning("the disk is nearly full", extra={"lock": threading.Lock(), "free": 3})
    return 5


def test_a_record_arrives_whatever_is_beside_its_text(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    assert child.run(log_what_cannot_be_sent) == 5
    (record,) = (each for each in caplog.records if each.name == "vendors")
    assert record.message == "the disk is nearly full"
    assert record.__dict__["free"] == 3
    assert "lock" in record.__dict__["lock"]

"""Who waits for the machine, or for a file, is told for whom and gets its turn; on real processes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from regiolect.errors import Busy, RegistryError, UnusableFile
from regiolect.host import lock, waiting
from regiolect.host.lock import WAIT_VARIABLE, sharing_machine, whole_machine
from regiolect.host.waiting import alone, others
from regiolect.registry import Registry
from regiolect.signing.keyring import Keyring
from tests.patience import until

pytestmark = pytest.mark.slow

HOLDS = "with {hold}:\n    print('holds', flush=True)\n    time.sleep(600)"
REPEATS = "while True:\n    with {hold}:\n        print('holds', flush=True)\n        time.sleep({seconds})"
IMPORTS = """
import sys, time
from pathlib import Path
from regiolect.host import lock
from regiolect.host.waiting import alone
from regiolect.host.lock import sharing_machine, whole_machine
"""
SHARES, TAKES = "sharing_machine()", "whole_machine()"
Other = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def other() -> Iterator[Other]:
    """Starts another process, which is there once it holds what it is to hold."""
    with ExitStack() as stack:

        def start(work: str, first: str = "holds", **names: object) -> subprocess.Popen[str]:
            program = IMPORTS + work.format(**names)
            command = [sys.executable, "-c", program, "at", "work"]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            if first:
                assert process.stdout is not None
                assert process.stdout.readline().strip() == first
            return process

        yield start


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("hold", "wait", "doing"), [(SHARES, whole_machine, "works"), (TAKES, sharing_machine, "times")]
)
def test_who_waits_says_for_which_process_since_when_and_says_it_again(
    hold: str,
    wait: Callable[[], ExitStack],
    doing: str,
    other: Other,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "SAY_SECONDS", 0.3)
    process, passed = other(HOLDS, hold=hold), threading.Event()

    def work() -> None:
        with wait():
            passed.set()

    in_a_thread(work)
    until(lambda: len(caplog.messages) >= 2, every=0.01)
    for said in caplog.messages[:2]:
        assert f"process {process.pid} (-c at work) {doing} since " in said
        assert " UTC, for " in said
    assert caplog.records[0].levelno == logging.WARNING
    assert not passed.is_set()
    process.kill()
    assert passed.wait(60)


def test_a_wait_has_a_limit_that_names_the_process_and_the_setting(
    other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = other(HOLDS, hold=TAKES)
    monkeypatch.setenv(WAIT_VARIABLE, "0.6")
    with pytest.raises(Busy) as caught, sharing_machine():
        pytest.fail("the machine is another's")
    assert f"process {process.pid} " in caught.value.found
    assert "within 0.6 s" in caught.value.expected
    assert f"{WAIT_VARIABLE}=1.2" in caught.value.remedy


def test_a_killed_process_is_named_to_nobody(
    other: Other, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, lives = other(HOLDS, hold=SHARES), other(HOLDS, hold=SHARES)
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    monkeypatch.setenv(WAIT_VARIABLE, "0.6")
    with pytest.raises(Busy) as caught, whole_machine():
        pytest.fail("another works")
    assert str(lives.pid) in caught.value.found
    assert str(dead.pid) not in caught.value.found + caplog.text


def test_a_timing_lets_work_begin_for_a_while_and_then_has_its_turn(
    other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two others work so that one of them always does."""
    monkeypatch.setattr(lock, "TURN_SECONDS", 2.0)
    # filelock prefers who waits to write in a process of one thread alone.
    in_a_thread(threading.Event().wait)
    for _ in range(4):
        other(REPEATS, hold=SHARES, seconds=0.7)
    begin = time.monotonic()
    with whole_machine():
        assert time.monotonic() - begin < 30


def test_timings_one_after_another_let_work_in(other: Other) -> None:
    for _ in range(2):
        # The second has its turn as well, only sooner than others'.
        other("lock.TURN_SECONDS = 1.0\n" + REPEATS, hold=TAKES, seconds=0.3)
    in_a_thread(threading.Event().wait)
    begin = time.monotonic()
    for _ in range(3):
        with sharing_machine():
            pass
    assert time.monotonic() - begin < 30


def test_work_inside_of_work_does_not_wait_for_a_timing_that_waits_for_it(other: Other, tmp_path: Path) -> None:
    with sharing_machine():
        other("lock.TURN_SECONDS = 0.0\n" + HOLDS, first="", hold=TAKES)
        until(lambda: any("nothing new begins" in path.read_text() for path in tmp_path.glob("*/*.holder")), every=0.01)
        begin = time.monotonic()
        with sharing_machine():
            assert time.monotonic() - begin < 5


def test_a_file_that_another_holds_is_waited_for_by_name_and_not_for_ever(
    other: Other, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SAY_SECONDS", 0.2)
    process = other(HOLDS, hold=f"alone(Path({str(tmp_path / 'lock')!r}), 'to hold it', 5)")
    with pytest.raises(RegistryError) as caught, alone(tmp_path / "lock", "to be alone", 0.9, RegistryError):
        pytest.fail("another holds it")
    assert f"waits to be alone: process {process.pid} (-c at work) holds it since " in caplog.messages[0]
    assert len(caplog.messages) >= 2
    assert f"process {process.pid} " in caught.value.found
    process.kill()
    with alone(tmp_path / "lock", "to be alone", 60):
        pass
    assert not (tmp_path / "lock.holder").exists()


def change_trust(file: Path) -> None:
    Keyring.at(file.with_name("key"), file).create("a test")


def open_registry(file: Path) -> None:
    Registry(f"sqlite:///{file}", None).champion("tiny", "eu")


@pytest.mark.parametrize("use", [change_trust, open_registry])
def test_keys_and_registries_that_another_process_changes_are_waited_for_by_name(
    use: Callable[[Path], None], other: Other, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = other(HOLDS, hold=f"alone(Path({str(tmp_path / 'file.lock')!r}), 'to hold it', 5)")
    for module in ("regiolect.signing.keyring", "regiolect.registry.connection"):
        monkeypatch.setattr(f"{module}._LOCK_SECONDS", 0.6)
    with pytest.raises((Busy, RegistryError), match=f"process {process.pid} "):
        use(tmp_path / "file")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("put", ["pipe", "sparse"])
def test_what_is_no_record_of_a_holder_is_passed_over(tmp_path: Path, put: str) -> None:
    record = tmp_path / "x.holder"
    if put == "pipe":
        os.mkfifo(record)
    else:
        record.touch()
        os.truncate(record, 1 << 40)
    assert others([record]) == ()


@pytest.mark.timeout(60)
def test_a_pipe_or_a_link_where_a_holder_is_told_keeps_nobody_from_holding(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.holder")
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link.holder").symlink_to(tmp_path / "precious")
    with alone(tmp_path / "pipe", "to try", 1), alone(tmp_path / "link", "to try", 1):
        assert (tmp_path / "precious").read_text() == "mine"


def test_a_folder_of_locks_that_others_can_write_or_that_is_a_link_is_refused(tmp_path: Path) -> None:
    with sharing_machine():
        (folder,) = tmp_path.glob("regiolect-*")
    folder.chmod(0o777)
    with pytest.raises(UnusableFile, match=r"no other can write; found a folder of mode 0777.*TMPDIR"), whole_machine():
        pytest.fail("it was used")
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnusableFile, match="found a link"), sharing_machine():
        pytest.fail("it was used")
    folder.unlink()
    folder.touch()
    with pytest.raises(UnusableFile, match="found no folder"), sharing_machine():
        pytest.fail("it was used")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_a_folder_of_locks_that_is_another_accounts_is_refused(tmp_path: Path) -> None:
    with sharing_machine():
        (folder,) = tmp_path.glob("regiolect-*")
    os.chown(folder, 54_321, 54_321)
    with pytest.raises(UnusableFile, match="owned by 54321:54321"), sharing_machine():
        pytest.fail("it was used")

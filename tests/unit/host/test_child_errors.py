"""Errors of a child: whole, by their name, without a secret, and whatever their own code does."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regiolect import progress
from regiolect.errors import EngineCrashed, ParityFailed, RegiolectError
from regiolect.host.isolated import Child
from tests.unit.host.children import add, pid

pytestmark = pytest.mark.slow


PLANTED = "planted-0815"


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


def test_an_answer_that_cannot_be_sent_is_no_crash(child: Child) -> None:
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        child.run(answer_what_cannot_be_sent)
    assert child.run(add, 1, 1) == 2


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

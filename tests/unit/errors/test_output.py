"""What a process of ours says, whoever wrote it, tells no secret."""

from __future__ import annotations

import logging
import pickle
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from regiolect.cli import app as cli
from regiolect.contracts import failure_of
from regiolect.errors import RegistryError
from regiolect.errors.output import causes, raising_no_secret, redact_output, text_of, traceback_of, without_secrets

PLANTED = "planted-0815"
ADDRESS = f"https://bot:{PLANTED}@data.example/eu.npz?token={PLANTED}"
SHOWN = "https://bot:***@data.example/eu.npz?token=***"


class HTTPError(Exception):
    """As a vendor's."""


class Dropped:
    def __del__(self) -> None:
        raise HTTPError(ADDRESS)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = warnings.formatwarning, sys.excepthook, threading.excepthook, sys.unraisablehook
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)
    warnings.formatwarning, sys.excepthook, threading.excepthook, sys.unraisablehook = before


def fail() -> None:
    try:
        raise HTTPError(f"401 for url: {ADDRESS}")
    except HTTPError as error:
        raise RegistryError("an answer", "none", "wait") from error


def test_what_is_logged_tells_no_secret_by_message_argument_or_cause(caplog: pytest.LogCaptureFixture) -> None:
    redact_output()
    logger = logging.getLogger("vendors")
    logger.warning("no answer from %s", ADDRESS)
    logger.warning("%d of %d", 1, 2)
    try:
        fail()
    except RegistryError:
        logger.exception("it failed")
    assert PLANTED not in caplog.text
    assert f"no answer from {SHOWN}" in caplog.text
    assert "1 of 2" in caplog.text
    assert "in fail" in caplog.text, "where it was raised is told all the same"
    assert f"HTTPError: 401 for url: {SHOWN}" in caplog.text


def test_arguments_that_do_not_fit_are_not_printed_either(caplog: pytest.LogCaptureFixture) -> None:
    redact_output()
    logging.getLogger("vendors").warning("at %d", ADDRESS)
    assert caplog.messages == ["'at %d': arguments that do not fit"]


def test_uncaught_errors_of_threads_and_warnings_tell_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    redact_output()
    thread = threading.Thread(target=fail, name="watcher")
    thread.start()
    thread.join()
    sys.excepthook(HTTPError, HTTPError(ADDRESS), None)
    dropped = Dropped()
    del dropped
    said = capsys.readouterr().err + warnings.formatwarning(f"old: {ADDRESS}", UserWarning, "a.py", 1)
    assert "Exception in watcher:" in said
    assert "HTTPError: https://bot:***@" in said
    assert "Exception ignored in function:" in said
    assert "UserWarning: old: https://bot:***@" in said
    assert PLANTED not in said


def test_an_error_that_nothing_foresaw_ends_a_command_without_secrets_and_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(app: object) -> None:
        raise HTTPError(f"401 for url: {ADDRESS}")

    monkeypatch.setattr(cli, "answering", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert PLANTED not in said
    assert "in command" in said, "a defect is found by its traceback"
    assert f"  found     401 for url: {SHOWN}" in said
    assert "  remedy    if the cause is not on this machine, report it as a defect" in said


def test_an_error_of_others_is_kept_without_its_secrets() -> None:
    failure = failure_of(HTTPError(f"401 for url: {ADDRESS}"))
    assert (failure.kind, failure.found) == ("HTTPError", f"401 for url: {SHOWN}")


def test_an_error_of_ours_stays_what_it_is_whatever_stands_at_the_end_of_its_parts() -> None:
    error = RegistryError(f"an answer of {ADDRESS}", f"401 for url: {ADDRESS}", "renew it")
    error.add_note(f"tried with {ADDRESS}")
    assert without_secrets(error) is error
    assert (error.found, error.remedy) == (f"401 for url: {SHOWN}", "renew it")
    assert error.__notes__ == [f"tried with {SHOWN}"]


def test_an_error_whose_text_cannot_be_made_keeps_its_name() -> None:
    class Mute(Exception):
        def __repr__(self) -> str:
            raise AttributeError("code")

    told = without_secrets(Mute())
    assert (type(told).__name__, str(told)) == ("Mute", "its text cannot be read: AttributeError")


def test_only_an_error_that_tells_a_secret_is_replaced() -> None:
    harmless = OSError(2, "no such file", "/a/b")
    assert without_secrets(harmless) is harmless
    with pytest.raises(FileNotFoundError), raising_no_secret():
        raise FileNotFoundError(2, "no such file", "/a/b")
    with pytest.raises(RuntimeError, match="token=") as raised, raising_no_secret():
        raise HTTPError(ADDRESS)
    assert type(raised.value).__name__ == "HTTPError"
    assert str(raised.value) == SHOWN


class SaysMoreThanItPrints(Exception):
    def __str__(self) -> str:
        return f"password={PLANTED}"

    def __repr__(self) -> str:
        return "SaysMoreThanItPrints()"


def with_a_note() -> Exception:
    error = ValueError("a shard")
    error.add_note(f"password={PLANTED}")
    return error


def with_a_cause() -> Exception:
    error = ValueError("a shard")
    error.__cause__ = RuntimeError(ADDRESS)
    return error


@pytest.mark.parametrize("made", [with_a_note, with_a_cause, SaysMoreThanItPrints, lambda: ValueError(ADDRESS)])
@pytest.mark.parametrize("depth", [0, 1, 20])
@pytest.mark.parametrize("place", [0, 30])
def test_no_member_of_a_group_tells_a_secret(made: Callable[[], Exception], depth: int, place: int) -> None:
    def raise_them() -> None:
        error = made()
        for _ in range(depth + 1):
            error = ExceptionGroup("shards failed", [*(KeyError(number) for number in range(place)), error])
        raise error

    with pytest.raises(ExceptionGroup, match="shards failed") as raised, raising_no_secret():
        raise_them()
    told = "".join(traceback.TracebackException.from_exception(
        raised.value, max_group_width=100, max_group_depth=100
    ).format())  # fmt: skip
    assert PLANTED not in told
    assert "ValueError: a shard" in told or "***" in told
    assert PLANTED not in repr(pickle.loads(pickle.dumps(raised.value)).exceptions)  # noqa: S301 - made here


def test_a_group_without_secrets_stays_what_it_is() -> None:
    group = ExceptionGroup("two", [KeyError(1), ExceptionGroup("one", [ValueError("a")])])
    assert without_secrets(group) is group


def test_where_an_error_with_a_secret_was_raised_is_kept_without_it() -> None:
    with pytest.raises(RuntimeError) as raised, raising_no_secret():
        fail_by_itself()
    told = "".join(traceback.format_exception(raised.value))
    assert "in fail_by_itself" in told
    assert PLANTED not in told


def fail_by_itself() -> None:
    raise HTTPError(ADDRESS)


class Unreadable(Exception):
    @property
    def __notes__(self) -> list[str]:
        raise RuntimeError("its own code")


@pytest.mark.parametrize(
    "error", [SyntaxError(ADDRESS, ("f", 1, "x", "no column")), Unreadable(ADDRESS)], ids=["SyntaxError", "notes"]
)
def test_an_error_of_which_python_cannot_print_is_told_all_the_same(
    error: Exception, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    redact_output()
    try:
        raise error
    except type(error) as raised:
        at = raised.__traceback__
    broken = ""
    try:
        logging.getLogger("vendors").error("it failed", exc_info=(type(error), error, at))
        sys.excepthook(type(error), error, at)
    except Exception as other:  # noqa: BLE001
        # By its name: pytest could not print it either.
        broken = type(other).__name__
    assert not broken
    for told in (caplog.text, capsys.readouterr().err):
        assert f"{type(error).__name__}: https://bot:***@data.example" in told
        assert "in test_an_error_of_which" in told
        assert PLANTED not in told


class AnswersToNothing(Exception):
    """As a proxy that stands for something that is gone."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_what_python_keeps_with_an_error_is_read_whatever_the_error_answers() -> None:
    error = AnswersToNothing("first")
    vars(BaseException)["__cause__"].__set__(error, ValueError("no disk"))
    told = traceback_of(error)
    assert "ValueError: no disk" in told and "AnswersToNothing: first" in told
    assert [type(each).__name__ for each in causes(error)] == ["AnswersToNothing", "ValueError"]
    assert type(without_secrets(error)).__name__ == "AnswersToNothing"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", ["x", "a:/secretkey", "'x@?a=:/ ", "password='a' "])
def test_of_an_error_of_many_megabytes_the_beginning_is_told(piece: str) -> None:
    text = "refused " + piece * (10_000_000 // len(piece))
    for told in (
        text_of(ValueError(text)),
        traceback_of(ValueError(text)),
        RegistryError(text, text, "renew it").found,
    ):
        assert "refused" in told and "more signs]" in told
        assert len(told) < 400_000
    assert len(str(without_secrets(ValueError(text)))) < 400_000


def test_a_secret_where_a_text_is_cut_off_is_not_told_in_part() -> None:
    for before in range(99_950, 100_010, 2):
        told = text_of(ValueError(f"{'x ' * (before // 2)}at {ADDRESS} {'y' * 1_000}"))
        assert PLANTED[:4] not in told and "more signs]" in told

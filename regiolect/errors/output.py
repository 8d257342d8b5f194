"""Errors of others and what is logged, without secrets: what a process of ours says passes through here.

Errors of ours tell none. A vendor's may, as the cause of one of ours or as what nothing here foresaw, and an
orchestrator keeps whatever is logged.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from regiolect.errors.base import RegiolectError
from regiolect.errors.redaction import redacted

_records = logging.getLogRecordFactory()
_warning = warnings.formatwarning


def redact_output() -> None:
    """From now on no secret is in what this process logs, in its warnings, or in the traceback of an uncaught error.

    For processes that are ours: commands, runs of flows and the children of both. A process that only loads an engine
    has loggers of its own.
    """
    # Of all records of a process rather than at handlers: libraries add their own, and at any time.
    logging.setLogRecordFactory(_record)
    warnings.formatwarning = _formatted
    sys.excepthook = _report
    threading.excepthook = _report_of_thread


def traceback_of(error: BaseException) -> str:
    """An error, its causes and where they were raised, as Python prints them, without secrets."""
    return redacted("".join(traceback.format_exception(error)))


def without_secrets(error: BaseException) -> BaseException:
    """The error itself, or one of the same name without secrets where it tells any. Its causes are not looked at."""
    if isinstance(error, RegiolectError):
        # Its parts tell none, and what others added may. Read as one text, they could seem to: `?token=***; found`.
        if notes := getattr(error, "__notes__", ()):
            error.__notes__ = [redacted(str(note)) for note in notes]
        return error
    told = "".join(traceback.format_exception_only(error))
    try:
        told += repr(error)
        return error if redacted(told) == told else named(type(error).__name__, redacted(str(error)))
    # It is the error's own code, and an error of that must not hide this one.
    except Exception as other:  # noqa: BLE001
        return named(type(error).__name__, f"its text cannot be read: {type(other).__name__}")


@contextmanager
def raising_no_secret() -> Iterator[None]:
    """Around code of others whose errors an orchestrator keeps: what is raised is `without_secrets`."""
    try:
        yield
    except Exception as error:
        told = without_secrets(error)
        if told is error:
            raise
        raise told from error


def named(kind: str, text: str) -> BaseException:
    """An error that is called `kind` and can be sent to other processes."""

    class Named(RuntimeError):
        def __reduce__(self) -> tuple[object, ...]:
            return (named, (kind, text))

    Named.__name__ = Named.__qualname__ = kind
    return Named(text)


def _record(*args: object, **kwargs: object) -> logging.LogRecord:
    record = _records(*args, **kwargs)
    try:
        text = record.getMessage()
    # Logging would print what does not fit as it is.
    except Exception:  # noqa: BLE001
        text, record.args = "", None
        record.msg = redacted(f"{record.msg!r}: arguments that do not fit")
    if (shown := redacted(text)) != text:
        record.msg, record.args = shown, None
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        told = "".join(traceback.format_exception(error))
        if (shown := redacted(told)) != told:
            # A handler that would format the error itself finds none.
            record.exc_text, record.exc_info = shown.rstrip(), None
    return record


def _formatted(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return redacted(_warning(message, category, filename, lineno, line))


def _report(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, at))))


def _report_of_thread(args: threading.ExceptHookArgs) -> None:
    # As Python does: a thread may leave by it.
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread is not None else "a thread"
        sys.stderr.write(f"Exception in {name}:\n{traceback_of(args.exc_value)}")

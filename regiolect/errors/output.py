"""Errors of others and what is logged, without secrets and without what a terminal obeys: what a process of ours says
passes through here.

Errors of ours tell no secret. A vendor's may, as the cause of one of ours or as what nothing here foresaw, and an
orchestrator keeps whatever is logged.
"""

from __future__ import annotations

import json
import logging
import operator
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from regiolect.errors.base import RegiolectError
from regiolect.errors.family import cause_of, family, kept, members, said
from regiolect.errors.redaction import redacted, shortened

MOST_CAUSES = 100
"""Causes of one error that are told; code that retries may heap up thousands."""

LAYOUT = "\n\t"
"""Signs that are not printable and belong to a text of several lines."""

# Printable to Python and yet not to be seen, or struck through what stands before: names that differ look the same.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U00016fe4\U0001d159\U000e0100-\U000e01ef"
    "\u0334-\u0338\u1cd4\u1ce2-\u1ce8\u20d2\u20d3\u20d8-\u20da\u20e5\u20e6\u20ea\u20eb]"
)

_records = logging.getLogRecordFactory()
_warning = warnings.formatwarning


def printable(text: str, but: str = "") -> str:
    """A text of others as a terminal shows it: what is not printable, or cannot be seen, is written as JSON escapes it,
    `\\u001b`, `\\n`.

    A terminal would obey it, and hide or forge what stands around it. Text that is JSON stays the same JSON.

    Args:
        but: signs that stay; LAYOUT for a text whose lines are its own.
    """
    if not text.isascii():
        text = _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)
    return "".join(sign if sign.isprintable() or sign in but else json.dumps(sign)[1:-1] for sign in text)


def redact_output() -> None:
    """From now on no secret, and nothing that a terminal obeys, is in what this process logs, in its warnings, or in
    the traceback of an uncaught error.

    For processes that are ours: commands, runs of flows and the children of both. A process that only loads an engine
    has loggers of its own.
    """
    # Of all records of a process rather than at handlers: libraries add their own, and at any time.
    logging.setLogRecordFactory(_record)
    warnings.formatwarning = _formatted
    sys.excepthook = _report
    threading.excepthook = _report_of_thread
    sys.unraisablehook = _report_ignored


def traceback_of(error: BaseException) -> str:
    """An error, its causes and where they were raised, as Python prints them, without secrets and `printable`: of more
    causes than MOST_CAUSES the nearest."""
    try:
        told = last = traceback.TracebackException.from_exception(error, lookup_lines=False)
        for _ in range(MOST_CAUSES):
            last = last.__cause__ or last.__context__ or last
        last.__cause__ = last.__context__ = None
        text = "".join(told.format())
    # What it reads is the error's own, as notes and the place of a SyntaxError.
    except Exception:  # noqa: BLE001
        text = "\nwhich led to:\n\n".join(map(_at_least, reversed(causes(error))))
    return _clean(text)


def _at_least(error: BaseException) -> str:
    raised = "".join(traceback.format_tb(kept(error, "__traceback__")))
    return f"{raised}{type(error).__name__}: {text_of(error)}\n"


def causes(error: BaseException) -> list[BaseException]:
    """An error and what Python prints as its causes, each once and MOST_CAUSES at most."""
    links: dict[int, BaseException] = {}
    link: BaseException | None = error
    # By identity: an error may compare as it likes.
    while link is not None and id(link) not in links and len(links) <= MOST_CAUSES:
        links[id(link)] = link
        link = cause_of(link)
    return list(links.values())


def text_of(error: BaseException) -> str:
    """What an error says, without secrets. It is the error's own code, and an error of that must not hide this one."""
    try:
        return redacted(shortened(str(error)))
    except Exception as other:  # noqa: BLE001
        return f"its text cannot be read: {type(other).__name__}"


def texts_of(error: BaseException) -> list[tuple[str, str, str]]:
    """Module, name and text of an error, and of the members of a group."""
    return [(type(each).__module__, type(each).__qualname__, text_of(each)) for each in members(error)]


def printable_repr(value: object) -> str:
    """A value as it prints in a line, without secrets; by the name of its type where its own code cannot say."""
    try:
        return printable(redacted(shortened(repr(value))))
    except Exception:  # noqa: BLE001
        return f"<{type(value).__name__}>"


def without_secrets(error: BaseException) -> BaseException:
    """The error itself, or one of the same name without secrets where it tells any.

    Its causes are not looked at; of a group, the members are, and theirs.
    """
    try:
        if isinstance(error, RegiolectError):
            # Its parts tell none, and what others added may. Read as one text, they could seem to: `?token=***; found`.
            if notes := getattr(error, "__notes__", ()):
                error.__notes__ = [redacted(str(note)) for note in notes]
            return error
        if isinstance(error, BaseExceptionGroup):
            return _group_without_secrets(error)
        told = said(error)
        return error if redacted(shortened(told)) == told else named(type(error).__name__, text_of(error))
    # As in `text_of`.
    except Exception as other:  # noqa: BLE001
        return named(type(error).__name__, f"its text cannot be read: {type(other).__name__}")


def _group_without_secrets(group: BaseExceptionGroup) -> BaseException:
    told = [_member(each) for each in group.exceptions]
    own = "\n".join([group.message, *map(str, getattr(group, "__notes__", ()))])
    if redacted(own) == own and all(map(operator.is_, told, group.exceptions)):
        return group
    name = type(group).__name__
    kind = "" if type(group) in (ExceptionGroup, BaseExceptionGroup) else f"{name}: "
    clean = BaseExceptionGroup(kind + redacted(group.message), told)
    for note in getattr(group, "__notes__", ()):
        clean.add_note(redacted(str(note)))
    return clean


def _member(error: BaseException) -> BaseException:
    """An error, or one of the same name and text if it, its causes or its own members tell a secret; then a note says
    where it was raised and by what."""
    with suppress(Exception):
        told_by_all = "\n".join(map(said, family(error)))
        if redacted(shortened(told_by_all)) == told_by_all:
            return error
        if isinstance(error, BaseExceptionGroup) and cause_of(error) is None:
            return _group_without_secrets(error)
    told = named(type(error).__name__, text_of(error))
    told.add_note(f"As it was raised:\n{traceback_of(error)}")
    return told


@contextmanager
def raising_no_secret() -> Iterator[None]:
    """Around code of others whose errors an orchestrator keeps: what is raised is `without_secrets`, and of one that
    tells any a note says where it was raised."""
    try:
        yield
    except Exception as error:
        told = without_secrets(error)
        if told is error:
            raise
        told.add_note(f"As it was raised:\n{traceback_of(error)}")
        raise told from None


def named(kind: str, text: str) -> BaseException:
    """An error that is called `kind` and can be sent to other processes."""

    class Named(RuntimeError):
        def __reduce__(self) -> tuple[object, ...]:
            # Notes are kept there.
            return (named, (kind, text), self.__dict__ or None)

    Named.__name__ = Named.__qualname__ = kind
    return Named(text)


def _clean(text: str) -> str:
    return printable(redacted(shortened(text)), LAYOUT)


def _record(*args: object, **kwargs: object) -> logging.LogRecord:
    record = _records(*args, **kwargs)
    try:
        text = record.getMessage()
    # Logging would print what does not fit as it is.
    except Exception:  # noqa: BLE001
        text, record.args = "", None
        record.msg = f"{printable_repr(record.msg)}: arguments that do not fit"
    if (shown := _clean(text)) != text:
        record.msg, record.args = shown, None
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        shown = traceback_of(error)
        if shown != _as_python_prints(error):
            # A handler that would format the error itself finds none.
            record.exc_text, record.exc_info = shown.rstrip(), None
    return record


def _as_python_prints(error: BaseException) -> str | None:
    try:
        return "".join(traceback.format_exception(error))
    # As in `traceback_of`.
    except Exception:  # noqa: BLE001
        return None


def _formatted(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return _clean(_warning(message, category, filename, lineno, line))


def _report(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    sys.stderr.write(traceback_of(error))


def _report_of_thread(args: threading.ExceptHookArgs) -> None:
    # As Python does: a thread may leave by it.
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread is not None else "a thread"
        sys.stderr.write(f"Exception in {name}:\n{traceback_of(args.exc_value)}")


def _report_ignored(args: sys.UnraisableHookArgs) -> None:
    # Of what is called where nothing can be raised: `__del__`, and at the end of the process.
    if args.exc_value is not None:
        sys.stderr.write(f"Exception ignored in {type(args.object).__name__}:\n{traceback_of(args.exc_value)}")

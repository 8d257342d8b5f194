"""What belongs to an error and is printed with it: its notes, the members of a group, its causes, and theirs.

All of it is the error's own code, which may raise anything. Walking takes time in proportion to what there is, however
deep: `traceback` prints a few members of a group alone, and walks all causes for each error that it is asked for.
"""

from __future__ import annotations

from typing import Any


def members(error: BaseException) -> list[BaseException]:
    """An error and, of a group, what is in it and in the groups within, each once."""
    return _reached(error, causes=False)


def family(error: BaseException) -> list[BaseException]:
    """An error, the members of a group, and what Python prints as the causes of any of them, each once."""
    return _reached(error, causes=True)


def cause_of(error: BaseException) -> BaseException | None:
    """What Python prints as the cause of an error."""
    cause: BaseException | None = kept(error, "__cause__")
    return cause or (None if kept(error, "__suppress_context__") else kept(error, "__context__"))


def kept(error: BaseException, name: str) -> Any:
    """What Python keeps with an error, whatever its class answers to the name."""
    return vars(BaseException)[name].__get__(error)


def printed(error: BaseException) -> str:
    """What Python prints of one error: its text, if it has one, its notes, and the line of a file that it shows."""
    try:
        parts = [f"{type(error).__name__}: {error}"]
    except Exception:  # noqa: BLE001
        parts = [type(error).__name__]
    notes = getattr(error, "__notes__", ())
    parts += map(str, notes) if isinstance(notes, (list, tuple)) else [repr(notes)]
    if isinstance(error, SyntaxError):
        parts += [str(error.filename), str(error.text)]
    return "\n".join(parts)


def said(error: BaseException) -> str:
    """What an error alone says, also as its arguments print.

    Raises:
        Exception: whatever its own code does where it cannot say it.
    """
    return "\n".join([printed(error), str(error), repr(error)])


def _reached(error: BaseException, *, causes: bool) -> list[BaseException]:
    # By identity: an error may compare as it likes.
    found: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in found:
            continue
        found[id(each)] = each
        if issubclass(type(each), BaseExceptionGroup):
            waiting += reversed(each.exceptions)  # type: ignore[attr-defined]
        if causes:
            waiting.append(cause_of(each))
    return list(found.values())

"""What tests of children run in them, found in this module by name; and what they ask of a call."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from regiolect.errors import EngineCrashed
from regiolect.host.isolated import Child, Limits

AMPLE = Limits(memory_bytes=1 << 36, seconds=240)


MIB = 1 << 20


# Runs in a child: it has to be found in this module by name.


def add(one: int, two: int, times: int = 1) -> int:
    return (one + two) * times


def pid() -> int:
    return os.getpid()


def die_by(number: int) -> None:
    if number == signal.SIGSEGV:
        ctypes.string_at(0)
    os.kill(os.getpid(), number)


def hang() -> None:
    threading.Event().wait()


def crashed(made: Child, function: Callable[..., Any], *args: Any) -> EngineCrashed:
    with pytest.raises(EngineCrashed) as caught:
        made.run(function, *args)
    return caught.value

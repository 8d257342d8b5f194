"""A project's file of settings: where it is found, and what it states."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regiolect.errors import InvalidSetting
from regiolect.host.files import NOTE, cannot_read, read_file

OWN = "regiolect.toml"
SHARED = "pyproject.toml"

# Settings are read often, and other projects' files need not be understood: a table `tool.regiolect`, or one `tool` in
# which it may be.
_MAY_STATE = re.compile(rb"""tool["']?\s*\.\s*["']?regiolect|^\s*\[?\s*["']?tool["']?\s*[\]=]""", re.MULTILINE)


@dataclass(frozen=True)
class ProjectFile:
    """What a project says of itself, as it stands there.

    Attributes:
        path: the file, absolute.
        stated: values by key.
    """

    path: Path
    stated: Mapping[str, Any]

    def __str__(self) -> str:
        """As errors name it."""
        return str(self.path) if self.path.name == OWN else f"[tool.regiolect] of {self.path}"


def find_project_file(folder: Path) -> ProjectFile | None:
    """The nearest one from `folder` upwards: a `regiolect.toml`, or a `pyproject.toml` with the table [tool.regiolect].

    Of two in one folder the first counts; a pyproject.toml without that table is passed by.

    Raises:
        InvalidSetting: it cannot be read, or is no TOML.
    """
    for place in (folder, *folder.parents):
        for path in (place / OWN, place / SHARED):
            # A link that leads nowhere is told of where it is read.
            stated = _stated(path) if os.path.lexists(path) else None
            if stated is not None:
                return ProjectFile(path, stated)
    return None


def _stated(path: Path) -> Mapping[str, Any] | None:
    """The file's keys; None for a pyproject.toml that has nothing to say here."""
    content = _content(path)
    if path.name == SHARED and not _MAY_STATE.search(content):
        return None
    stated = _parsed(path, content)
    if path.name == OWN:
        return stated
    tools = stated.get("tool")
    table = tools.get("regiolect") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise _unusable(path, f"tool.regiolect = {table!r}", "write its settings below a line [tool.regiolect]")
    return table


def _content(path: Path) -> bytes:
    try:
        return read_file(path, NOTE)
    except OSError as error:
        raise _unusable(path, cannot_read(error), "mend its permissions, or move it away") from error


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"{error or type(error).__name__}", "mend what stands there") from error


def _unusable(path: Path, found: str, remedy: str) -> InvalidSetting:
    return InvalidSetting(expected=f"settings as TOML in {path}", found=found, remedy=remedy)

"""The code as text: where it lies, and what its files say."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("regiolect", "flows", "tasks", "data_checks")


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    """Every file of the code, by its path from the repository's root."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def first_line(name: str) -> str:
    """The first line of what a package or module of `regiolect` says of itself."""
    path = ROOT / "regiolect" / name
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def layers() -> list[list[str]]:
    """Names directly in `regiolect/`, layer by layer, the highest first."""
    contracts = project()["tool"]["importlinter"]["contracts"]
    lines = next(contract["layers"] for contract in contracts if contract.get("containers") == ["regiolect"])
    return [[name.strip() for name in line.split("|")] for line in lines]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; nothing in a cell ends it."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)

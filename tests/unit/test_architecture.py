"""The page on the house's structure says what the code says."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"


def first_line(name: str) -> str:
    """The first line of what a package or module says of itself."""
    path = ROOT / "regiolect" / name
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def layers() -> list[list[str]]:
    """Names directly in `regiolect/`, layer by layer, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    told = next(contract["layers"] for contract in contracts if contract.get("containers") == ["regiolect"])
    return [[name.strip() for name in layer.split("|")] for layer in told]


def test_the_table_of_layers_is_that_of_the_code() -> None:
    rows = [
        f"| {'' if place else number} | `{name}` | {first_line(name)} |"
        for number, names in enumerate(layers(), 1)
        for place, name in enumerate(names)
    ]
    assert "\n".join(rows) in PAGE.read_text(), "docs/architecture.md should hold this table:\n" + "\n".join(rows)


def test_every_decision_has_a_status_and_stands_in_the_index() -> None:
    rows = []
    for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")):
        number, title, status = re.match(r"# (\d+)\. (.+)\n\n(.+, \d{4}-\d\d-\d\d)\.\n", path.read_text()).groups()  # type: ignore[union-attr]
        rows.append(f"| [{number}]({path.name}) | {title} | {status.lower()} |")
    assert "\n".join(rows) in (ROOT / "docs" / "adr" / "README.md").read_text(), "\n".join(rows)

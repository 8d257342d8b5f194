"""Which pages, and which parts of pages, are made from the code."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from docs.from_code import errors, lists, picture
from docs.from_code.code import ROOT, first_line, layers, table

WHOLE = "<!-- Made from the code by `make pages`: change the code. -->"


def made() -> dict[Path, str]:
    """Every file that is made, in part or as a whole, as it should be."""
    docs = ROOT / "docs"
    reference, house, index = docs / "reference", docs / "architecture.md", docs / "adr" / "README.md"
    wholes = {
        reference / "backends.md": lists.backends(),
        reference / "settings.md": lists.settings(),
        reference / "commands.md": lists.commands(),
        reference / "errors.md": errors.page(),
    }
    return {
        **{path: f"{WHOLE}\n\n{_filled(text)}\n" for path, text in wholes.items()},
        docs / "images" / "architecture.svg": picture.svg(),
        house: _with_parts(house, {"layers": _layers()}),
        index: _with_parts(index, {"decisions": _decisions()}),
    }


def outdated() -> list[Path]:
    """Files that are not as the code has it."""
    return [path for path, text in made().items() if not path.exists() or path.read_text() != text]


def _with_parts(path: Path, parts: Mapping[str, str]) -> str:
    """A page with its parts as the code has them; each stands between `<!-- name -->` and `<!-- end of name -->`."""
    text = path.read_text()
    for name, part in parts.items():
        between = re.compile(rf"(<!-- {name}: made by `make pages` -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        found = between.search(text)
        if found is None:
            raise ValueError(
                f"{path} has no place for {name}: write <!-- {name}: made by `make pages` --> and "
                f"<!-- end of {name} -->, each on a line, where it goes"
            )
        text = f"{text[: found.end(1)]}\n{part}\n\n{text[found.start(2) :]}"
    return text


def _layers() -> str:
    rows = [
        ("" if place else str(number), f"`{name}`", first_line(name))
        for number, names in enumerate(layers(), 1)
        for place, name in enumerate(names)
    ]
    return table(("layer", "name", "what it is"), rows)


def _decisions() -> str:
    rows = []
    for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")):
        found = re.match(r"# (\d+)\. (.+)\n\n(.+, \d{4}-\d\d-\d\d)\.\n", path.read_text())
        if found is None:
            raise ValueError(f"{path} begins with `# NUMBER. TITLE` and a line `STATUS, YYYY-MM-DD.`")
        rows.append((f"[{found[1]}]({path.name})", found[2], found[3].lower()))
    return table(("", "decision", "status"), rows)


def _filled(text: str) -> str:
    """Paragraphs in lines of 120 signs; tables, lists, headings and code stay as they are."""
    blocks, code = [], False
    for block in text.split("\n\n"):
        if not code and re.match(r"[A-Za-z`\[]", block) and not block.startswith("```"):
            block = textwrap.fill(block, 120, break_long_words=False, break_on_hyphens=False)
        code ^= block.count("```") % 2 == 1
        blocks.append(block)
    return "\n\n".join(blocks)

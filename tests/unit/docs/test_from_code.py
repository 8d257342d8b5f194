"""The pages say what the code says."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

from docs.from_code import errors, picture
from docs.from_code.code import ROOT, layers
from docs.from_code.pages import outdated
from regiolect.engines.listed import OWN
from regiolect.errors import RegiolectError

DOCS = ROOT / "docs"
LONGEST_CELL = 180
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "infra").rglob("*.md"))]


def test_what_is_made_from_the_code_is_up_to_date() -> None:
    old = [str(path.relative_to(ROOT)) for path in outdated()]
    assert not old, f"make pages writes them anew: {', '.join(old)}"


def test_every_variable_that_a_page_names_is_on_the_page_of_settings() -> None:
    known = set(re.findall(r"^## (\w+)$", (DOCS / "reference" / "settings.md").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bREGIOLECT_[A-Z_]*[A-Z]\b", page.read_text())}
    assert "REGIOLECT_POLICIES" in known
    # Read by the Compose files alone.
    assert named - known <= {"REGIOLECT_TAG"}


def test_every_backend_has_its_section() -> None:
    sections = re.findall(r"^## (.+)$", (DOCS / "reference" / "backends.md").read_text(), re.MULTILINE)
    assert sections == list(OWN)


def test_nearly_every_error_that_is_raised_is_shown_as_it_is_said() -> None:
    sections = re.split(r"^## ", (DOCS / "reference" / "errors.md").read_text(), flags=re.MULTILINE)[1:]
    silent = {section.split()[0] for section in sections if "```" not in section}
    leaves = {kind.__name__ for kind, _ in errors._tree(RegiolectError, 0) if not kind.__subclasses__()}
    assert silent & leaves <= {"TargetNotServed"}


def test_the_picture_tells_the_way_from_plan_to_publish() -> None:
    way = picture.steps()
    assert [step.name for step in way][:: len(way) - 1] == ["plan", "publish"]
    known = {name for row in layers() for name in row} | set(picture.ABOVE)
    assert {step.package for step in way} <= known
    gate = next(step for step in way if step.name == "gate")
    assert {"EngineArtifact", "Attestation", "EvaluationResult"} <= set(gate.reads)


def test_what_the_glossary_names_is_in_the_code() -> None:
    page = (DOCS / "glossary.md").read_text()
    named = re.findall(r"`(regiolect\.[\w.]+)`", page)
    assert len(named) > 30
    for name in named:
        assert pkgutil.resolve_name(name) is not None
    for part in page.split("\n## ")[1:]:
        terms = [term.lower() for term in re.findall(r"^- \*\*(.+?)\*\*", part, re.MULTILINE)]
        assert terms == sorted(terms)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_paragraph_stands_in_a_cell(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    cells = [re.sub(r"\]\([^)]*\)", "]", cell) for row in rows for cell in re.split(r"(?<!\\)\|", row)]
    assert [cell for cell in cells if len(cell) > LONGEST_CELL] == []


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200

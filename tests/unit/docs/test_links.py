"""Links of pages lead somewhere, in the repository and on the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.from_code.code import ROOT
from docs.from_code.site import build, configuration, kept

pytestmark = pytest.mark.slow

PAGES = [ROOT / path for path in kept("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
    paths = [link.partition("#")[0] for link in links if not link.startswith(("#", "https://", "http://"))]
    # A folder is a page on no site.
    assert [path for path in paths if not (page.parent / path).is_file()] == []


def test_every_page_has_its_place_in_the_navigation() -> None:
    named = set(re.findall(r"[\w./-]+\.md", str(configuration()["nav"])))
    assert {path for path in kept("*.md") if path.startswith("docs/")} <= named
    assert {path for path in named if not path.startswith("api/")} <= set(kept("*.md"))


def test_the_site_is_built_and_no_page_link_or_anchor_is_missing(tmp_path: Path) -> None:
    build(tmp_path / "site")
    names = (tmp_path / "site" / "docs" / "reference" / "errors.html").read_text()
    assert 'id="foreigncalibration"' in names
    api = (tmp_path / "site" / "api" / "regiolect.engines.html").read_text()
    assert 'id="regiolect.engines.base.Backend.build"' in api
    # Nothing is fetched from elsewhere when a page is read.
    assert not re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?://', names)

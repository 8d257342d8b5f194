"""The page is safe to open, complete in itself, well formed and readable in light and dark."""

from __future__ import annotations

import re

from regiolect.contracts import Decision, Failure
from regiolect.report import markdown_table, render
from tests.unit.report.pages import FAILURE, Page, over_threshold, release, row, unjudged

HOSTILE = "<script>alert('1')</script>\" onload=\"x"


def test_what_people_wrote_stays_text(outcome_of):
    failure = Failure(kind="Kind", expected=HOSTILE, found=HOSTILE, remedy=HOSTILE)
    drill = over_threshold().model_copy(update={"name": HOSTILE, "attempt": HOSTILE, "by": HOSTILE, "detail": HOSTILE})
    about = row("na", title=HOSTILE, reasons=(HOSTILE,))
    refused = unjudged("jp", Decision.REFUSED, title=HOSTILE, failure=failure)
    blocked = row("hk", decision=Decision.FAILED, reasons=(HOSTILE,), model_uri=HOSTILE)
    result = release(about, refused, blocked, drills=(drill,), model=HOSTILE, tracking_uri=HOSTILE)
    page = Page(render(result, [outcome_of(about)]))
    assert not page.all("script")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert('1')</script>") >= 12
    assert "<script" not in markdown_table(result)


def test_the_page_refers_to_nothing_outside_itself(outcome_of):
    about = row("na")
    html = render(release(about, tracking_uri="https://mlflow.example"), [outcome_of(about)])
    page = Page(html)
    for tag in ("script", "link", "img", "iframe", "object", "embed", "base"):
        assert not page.all(tag)
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("href", "src")]
    assert links
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link.removeprefix("#") for link in links} <= anchors
    assert not re.search(r"@import|url\(|xmlns", html)


def test_every_element_that_opens_closes(outcome_of):
    rows = [row("na"), unjudged("jp", Decision.REFUSED, failure=FAILURE), row("eu", decision=Decision.FAILED)]
    assert Page(render(release(*rows, drills=(over_threshold(),)), [outcome_of(rows[0])])).open == []


def test_what_the_owner_notes_is_shown():
    html = render(release(row(), note="Cameras are SIMULATED."), [])
    assert "Cameras are SIMULATED." in html


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours. Source: WCAG 2.2, relative luminance."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_text_has_enough_contrast_in_light_and_dark():
    schemes = re.findall(r":root \{(.*?)\}", render(release(), []), re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colour = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for text in ("ink", "muted", "good", "bad", "doubt", "wait"):
            for ground in ("card", "ground"):
                assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)

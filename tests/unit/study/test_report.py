"""A reader's view of a study: all of it is there, the summary follows the data, and the page needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydantic import ValidationError

from regiolect.study import StudyResult, markdown_study, write_study
from regiolect.study.page import STEPS, legend, render_study, tone
from regiolect.study.words import findings

Study = Callable[..., StudyResult]


class Page(HTMLParser):
    """Tables by their cells' text, all attributes, and the text outside of style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_every_cell_and_every_draw_is_on_the_page(study: Study) -> None:
    result = study()
    text = Page(render_study(result)).text
    for cell in result.cells:
        assert f"{cell.loss:+z.2f}" in text
        assert all(f"{loss:+z.2f}" in text for loss in cell.losses)
    assert "All 6 pairs" in text


def test_the_page_loads_nothing_and_escapes_what_it_is_given(study: Study) -> None:
    html = render_study(study(note="<script>alert(1)</script>"))
    page = Page(html)
    assert "<script" not in html
    assert not [each for each in page.attributes if each[1] in ("src", "href")]
    assert "url(" not in html and "@import" not in html
    assert "default-src 'none'" in html


def test_the_diagonal_is_marked_and_colours_are_never_alone(study: Study) -> None:
    html = render_study(study())
    assert html.count(' own" title=') == 3
    squares = re.findall(r'<td class="(gain|loss-\d)[^"]*" title="([^"]+)"><b>([+-][\d.]+)', html)
    assert len(squares) == 9
    assert all(tone(float(figure)) == colour and figure in title for colour, title, figure in squares)
    assert 'role="img" aria-label="local is better">▲' in html


def test_classes_of_loss_are_those_of_the_legend() -> None:
    names = [name for name, _ in legend()]
    found = [tone(value) for value in (-3.0, 0.0, *(step + 0.01 for step in STEPS))]
    assert found == names


def test_the_summary_says_where_local_calibration_saves_and_where_not(study: Study) -> None:
    told = " ".join(findings(study()))
    assert re.search(r"saves points in 2 of 6 pairs: \+\d\d\.\d\d \(.*\) on bright against dark", told)
    assert "on hazy against dark" in told
    assert "In none of these pairs does local calibration save points the other way round" in told
    assert "In 4 of 6 pairs no difference is shown" in told
    assert "In none of 6 pairs is the foreign calibration shown to be better" in told


def test_a_study_that_favours_foreign_calibration_says_so(study: Study) -> None:
    told = " ".join(findings(study({("bright", "bright"): 0.2})))
    assert "In none of 6 pairs is local calibration shown to be better" in told
    assert "The foreign calibration is even better in 2 of 6 pairs" in told


def test_a_study_without_differences_says_that_nothing_is_shown(study: Study) -> None:
    result = study({})
    told = " ".join(findings(result))
    assert "In 6 of 6 pairs no difference is shown" in told
    assert "in no pair is a difference shown" in Page(render_study(result)).text


def test_markdown_holds_the_matrix_and_marks_the_diagonal(study: Study) -> None:
    result = study()
    rows = [line for line in markdown_study(result).splitlines() if line.startswith("| dark")]
    matrix = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert matrix[0] == "dark" and len(matrix) == 4
    assert matrix[1].startswith(f"{result.cell('dark', 'bright').loss:+.2f}▲")
    assert matrix[2].startswith("**")


def test_all_is_written_and_reads_back(study: Study, tmp_path: Path) -> None:
    result = write_study(study(), tmp_path)
    page = Path(str(result.report))
    assert page.name == "study-garments-20260302T120000.html"
    assert StudyResult.model_validate_json(page.with_suffix(".json").read_text()) == result
    assert page.with_suffix(".md").read_text().startswith("# garments")


@pytest.mark.parametrize("part", ["cells", "savings"])
def test_a_study_with_a_cell_or_a_draw_left_out_is_none(study: Study, part: str) -> None:
    data = json.loads(study().model_dump_json())
    shorter = {**data, part: data[part][1:]}
    with pytest.raises(ValidationError, match="a study needs a"):
        StudyResult.model_validate_json(json.dumps(shorter))
    with pytest.raises(ValidationError, match="seeds, but cells of"):
        StudyResult.model_validate_json(json.dumps({**data, "seeds": [0, 1]}))

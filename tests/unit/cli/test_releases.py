"""What a release came to, as a person reads it in terminals of several widths and in a pipe."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from regiolect.cli import releases
from regiolect.cli.releases import print_release
from regiolect.cli.terminal import Terminal
from regiolect.contracts import Decision
from tests.unit.report.pages import release, row, unjudged

URI = "models:/a-model-whose-name-is-longer-than-any-other-eu@champion"
ROWS = (
    row(region="eu", model_uri=URI, loss=-0.001, loss_lower=-0.19, loss_upper=0.42, threshold=2.0, rebuilt=True),
    row(region="jp", model_uri="models:/tiny-jp@champion", rebuilt=False),
    row(region="na", model_uri=None, decision=Decision.FAILED, reasons=("accuracy: loss 3.00 points",)),
)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def printed_in(width: int | None, *rows) -> list[str]:
        """Lines as a terminal of that width shows them, or a pipe's."""
        if width is not None:
            monkeypatch.setattr(releases, "out", lambda: Terminal(width=width, force_terminal=True, color_system=None))
        print_release(release(*rows))
        return capsys.readouterr().out.splitlines()

    return printed_in


@pytest.mark.parametrize("width", [60, 80, 120])
def test_where_the_table_does_not_fit_each_engine_has_lines_of_its_own(printed, width: int) -> None:
    lines = printed(width, *ROWS)
    assert f"  {URI}" in lines, "a name to be copied, whole and alone"
    text = "\n".join(lines)
    assert "┃" not in text
    of_eu = text.partition("eu ")[2].partition("jp ")[0]
    assert "approved" in of_eu and "built in" in of_eu
    assert re.search(r"loss \+0\.00 pt, -0\.19 to \+0\.42, limit 2 pt", " ".join(of_eu.split()))
    assert "-0.00" not in text
    others = [line for line in lines if "models:/" not in line and "://" not in line]
    assert max(map(len, others)) <= width


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_word_is_broken(printed, width: int) -> None:
    words = set(" ".join(printed(None, *ROWS)).split())
    narrow = [word for line in printed(width, *ROWS) for word in line.split()]
    lettered = {word for word in narrow if word.isalpha() and len(word) > 3}
    assert lettered <= words | {"built", "against", "champion", "kernels", "graph", "loss", "limit"}


def test_where_it_fits_and_in_a_pipe_it_is_a_table(printed) -> None:
    for width in (None, 260):
        lines = printed(width, *ROWS)
        (of_eu,) = [line for line in lines if line.startswith("│ eu")]
        assert URI in of_eu and "+0.00 pt" in of_eu


def test_a_single_engine_is_one(printed) -> None:
    assert printed(80, ROWS[0])[0] == "tiny: 1 engine"
    assert printed(80, *ROWS[:2])[0] == "tiny: 2 engines"


def test_the_last_line_counts_built_kept_and_refused_apart_and_tells_the_clock(printed) -> None:
    begin = release().started.astimezone()
    clock = f"{begin:%H:%M:%S} to {begin + timedelta(seconds=113.3):%H:%M:%S}"
    refused = unjudged("sea", Decision.REFUSED, rebuilt=True)
    assert printed(None, *ROWS, refused)[-1] == (
        f"tiny: 2 built (1 not approved), 1 kept, 1 refused in 1 min 53 s, {clock}"
    )
    assert printed(None, ROWS[1])[-1] == f"tiny: 0 built, 1 kept, 0 refused in 1 min 53 s, {clock}"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "0 s"), (43.4, "43 s"), (59.6, "1 min 0 s"), (3599.6, "1 h 0 min"), (7512.0, "2 h 5 min")],
)
def test_a_time_is_told_as_clocks_count(capsys: pytest.CaptureFixture[str], seconds: float, told: str) -> None:
    print_release(release(ROWS[0], seconds=seconds))
    assert f" in {told}, " in capsys.readouterr().out.splitlines()[-1]

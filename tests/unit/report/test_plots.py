"""Plots: on which side of its limit an interval lies, what has no scale, what a screen reader says."""

from __future__ import annotations

import re

import pytest

from regiolect.contracts import Decision
from regiolect.report import render
from tests.unit.report.pages import Page, over_threshold, release, row


def positions(html: str, label: str) -> tuple[float, float]:
    """Where the interval of the line whose spoken label starts with `label` begins and ends, in percent."""
    drawn = html[html.index(f'aria-label="{label}') :]
    found = re.search(r'class="range" x1="([\d.]+)%" x2="([\d.]+)%"', drawn)
    assert found
    return float(found[1]), float(found[2])


def limit_of(html: str) -> float:
    found = re.search(r'class="limit" x1="([\d.]+)%"', html)
    assert found
    return float(found[1])


def test_one_bad_loss_does_not_squash_the_others():
    strict = row("de", loss=0.0, loss_lower=-0.07, loss_upper=0.07, threshold=0.1)
    html = render(release(row("na"), strict, drills=(over_threshold(),)), [])
    left, right = positions(html, "de on cpu-x86")
    assert right - left > 30
    bad = positions(html, "na, drill")
    assert bad[0] > limit_of(html)
    assert bad[1] == 100
    assert "failed, off the scale" in Page(html).text


@pytest.mark.parametrize(
    ("lower", "upper", "decision"),
    [(0.1, 0.99, Decision.APPROVED), (0.8, 1.2, Decision.INCONCLUSIVE), (1.01, 1.4, Decision.FAILED)],
)
@pytest.mark.parametrize("limit", [0.1, 3.0])
def test_an_interval_lies_on_the_side_of_the_limit_that_it_was_judged_by(lower, upper, decision, limit):
    bounds = {"loss_lower": lower * limit, "loss_upper": upper * limit, "loss": (lower + upper) / 2 * limit}
    html = render(release(row(decision=decision, threshold=limit, **bounds)), [])
    left, right = positions(html, "na on cpu-x86")
    assert (left < limit_of(html), right < limit_of(html)) == (lower < 1, upper < 1)


def test_a_limit_of_zero_has_no_scale_and_is_still_told():
    html = render(release(row(threshold=0.0, loss=0.5, decision=Decision.FAILED)), [])
    assert 'class="range"' not in html
    assert "no scale at a limit of 0" in Page(html).text


def test_every_plot_line_can_be_read_aloud():
    page = Page(render(release(row("na"), row("jp", speedup=0.5), drills=(over_threshold(),)), []))
    labels = [svg["aria-label"] for svg in page.all("svg") if svg.get("role") == "img"]
    assert labels[0] == "na on cpu-x86, INT8: loss +0.20 pt, interval +0.00 to +0.42, limit 2 pt, approved"
    assert labels[-1] == "jp on cpu-x86, INT8: 0.50 times as fast as FP32"
    assert len(labels) == 5


def test_slower_is_left_of_one_and_faster_is_right_of_it():
    html = render(release(row("na", speedup=4.0), row("jp", speedup=0.25), row("eu", speedup=60.0)), [])
    bars = [(float(x), float(width)) for x, width in re.findall(r'class="bar" x="([\d.]+)%" width="([\d.]+)%"', html)]
    assert bars[0][0] == pytest.approx(bars[1][0] + bars[1][1], abs=0.02)
    assert bars[0][1] == pytest.approx(bars[1][1], abs=0.02)
    assert bars[0][1] > 20
    assert all(x >= 0 and x + width <= 100.01 for x, width in bars)

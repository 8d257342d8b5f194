"""Files and figures of a report: the same bytes for the same release, a table for Prefect, metrics for MLflow."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest

from regiolect.contracts import Arithmetic, Decision, ReleaseResult
from regiolect.errors import StorageError
from regiolect.report import figures, markdown_table, render, write_report
from tests.unit.report.pages import FAILURE, over_threshold, release, row, unjudged


def test_equal_input_gives_equal_bytes_and_the_json_reads_back(tmp_path, outcome_of):
    about = row("na")
    result, outcomes = release(about, drills=(over_threshold(),)), [outcome_of(about)]
    written = write_report(result, outcomes, tmp_path)
    path = tmp_path / "tiny-20260304T050607.html"
    first = path.read_bytes()
    assert written.report == str(path)
    assert written == ReleaseResult.model_validate_json(path.with_suffix(".json").read_bytes())
    assert written.model_copy(update={"report": None}) == result
    write_report(result, outcomes, tmp_path)
    assert path.read_bytes() == first
    assert {file.suffix for file in tmp_path.glob("*tiny-*")} == {".html", ".json"}


def test_times_are_shown_in_utc(tmp_path):
    eastern = datetime(2026, 3, 4, 0, 6, 7, tzinfo=timezone(timedelta(hours=-5)))
    written = write_report(release(started=eastern), [], tmp_path)
    assert str(written.report).endswith("tiny-20260304T050607.html")
    assert "04 March 2026, 05:06 UTC" in render(written, [])


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    blocked = tmp_path / "reports"
    blocked.write_text("a file, not a folder")
    with pytest.raises(StorageError, match=r"tiny-20260304T050607\.html"):
        write_report(release(row()), [], blocked)


def test_figures_count_and_name_each_engine():
    rows = (row("na"), row("eu", decision=Decision.FAILED, loss_upper=0.0, model_uri=None))
    assert figures(release(*rows, unjudged("jp", Decision.NOT_ATTESTED))) == {
        "engines": 3,
        "approved": 1,
        "served": 1,
        "seconds": 113.3,
        "loss_upper/na-cpu-x86": 0.42,
        "loss_upper/eu-cpu-x86": 0.0,
        "speedup/na-cpu-x86": 2.44,
        "speedup/eu-cpu-x86": 2.44,
    }


def test_classes_are_told_apart_and_one_that_was_left_out_is_told():
    told = "na cpu-x86 (amx): the next version is without it: no machine of class amx is there (changed: the policy)"
    vnni = row("na", arithmetic=Arithmetic.VNNI, executed="INT8 (vnni) 10 + FP32 1")
    result = release(vnni, left_out=(told,))
    text = markdown_table(result)
    assert "| na | cpu-x86 (vnni) | INT8 graph, 10 INT8 (vnni) and 1 FP32 kernels | approved |" in text
    assert f"**Left out**: {told}" in text
    assert "loss_upper/na-cpu-x86--vnni" in figures(result)
    page = render(result, [])
    assert "cpu-x86 (vnni)" in page
    assert "no machine of class amx is there" in page


def test_markdown_keeps_its_columns_and_tells_refusals_and_drills():
    failure = FAILURE.model_copy(update={"found": "a | b\nc"})
    result = release(
        row("na"),
        unjudged("jp", Decision.REFUSED, failure=failure, model_uri="models:/a|b"),
        row("hk", decision=Decision.INCONCLUSIVE, reasons=("more samples are needed",)),
        drills=(over_threshold(),),
    )
    text = markdown_table(result)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "| na | cpu-x86 | INT8 graph, 10 INT8 and 1 FP32 kernels | approved | +0.20 pt, +0.00 to +0.42 |" in text
    assert r"found a \| b c. Remedy: look at the calibration set" in text
    assert "**hk, inconclusive**: more samples are needed" in text
    assert "**Deliberate drill, over its threshold**: refused by gate, as it must be" in text

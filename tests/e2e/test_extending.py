"""The pages that show how to extend Regiolect, run word for word."""

from __future__ import annotations

from pathlib import Path

from tests.pages import ROOT, run_page

PAGES = ROOT / "docs" / "extending"


def test_a_region_is_one_file(tmp_path: Path) -> None:
    printed = run_page(PAGES / "region.md", tmp_path)
    assert "ch: valid, FP32" in printed


def test_a_metric_is_a_function_in_a_file_of_the_users(tmp_path: Path) -> None:
    printed = run_page(PAGES / "metric.md", tmp_path)
    assert "1 passed" in printed
    assert "never built" in printed


def test_a_stage_is_a_function_a_task_and_a_test(tmp_path: Path) -> None:
    assert "4 passed" in run_page(PAGES / "stage.md", tmp_path)

"""The page that shows users how to bring their own model, run word for word."""

from __future__ import annotations

from pathlib import Path

from tests.pages import ROOT, run_page


def test_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    printed = run_page(ROOT / "docs" / "own-model.md", tmp_path, "regiolect plan")
    assert printed.count("never built") == 2
    assert printed.count("models:/stripes-ch@champion") == 1
    assert "SIMULATED" in printed
    assert printed.count("unchanged since build") == 2

"""Who looks for garbage seldom: programs of ours and their children, and nobody who imports Regiolect."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from regiolect.host.isolated import Child, Limits
from tests.patience import PATIENCE


@pytest.mark.parametrize(("module", "objects"), [("regiolect", 700), ("flows", 100_000)])
def test_a_program_of_ours_looks_seldom_and_who_imports_us_decides_for_himself(module: str, objects: int) -> None:
    told = subprocess.run(
        [sys.executable, "-c", f"import gc, {module}; print(gc.get_threshold()[0])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) == objects


def test_a_child_of_a_release_looks_seldom() -> None:
    with Child("a test", Limits(1 << 40, PATIENCE)) as child:
        assert child.run(gc.get_threshold)[0] == 100_000

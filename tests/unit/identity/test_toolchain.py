from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("regiolect", "data_checks", "tasks", "flows")
ASKED = "from regiolect.identity.toolchain import own_code; print(own_code())"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Regiolect's own packages, in a folder of their own."""
    folder = tmp_path_factory.mktemp("copy")
    for package in (*PACKAGES, "region_policies"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def asked(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ASKED],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    "file", ["regiolect/gate/bounds.py", "data_checks/suite.py", "tasks/build.py", "flows/deploy/pools.py"]
)
def test_a_line_anywhere_in_own_code_changes_its_digest(copy: Path, file: str) -> None:
    before = asked(copy)
    with (copy / file).open("a") as code:
        code.write("# another line\n")
    assert asked(copy) != before

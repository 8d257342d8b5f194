"""A backend that another distribution brings is held to the same contract, and keeps it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.toy import installed

ROOT = Path(__file__).parents[2]
FILES = ("test_attestation.py", "test_backends.py", "test_configurations.py", "test_shapes.py")


def test_the_contract_accepts_the_toy_backend(tmp_path: Path) -> None:
    """As whoever writes a backend does it: installed beside Regiolect, `pytest tests/contract -k` its name."""
    paths = (*installed(tmp_path / "toy"), os.environ.get("PYTHONPATH", ""))
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-k", "toy", f"--basetemp={tmp_path / 'runs'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"tests/contract/{name}" for name in FILES)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert passed and int(passed[1]) >= 30 and "skipped" not in done.stdout, done.stdout[-2000:]

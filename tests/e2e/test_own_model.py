"""The page that shows users how to bring their own model, run word for word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "own-model.md"


def test_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    text = PAGE.read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
    script = "set -e\n" + "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    binaries = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "REGIOLECT_HOME": str(tmp_path / "home")}

    done = subprocess.run(  # noqa: S602
        script + "\nregiolect plan stripes:MODEL --policies policies\n",
        shell=True,
        executable="/bin/bash",
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("never built") == 2
    assert done.stdout.count("models:/stripes-ch@champion") == 1
    assert "SIMULATED" in done.stdout
    assert done.stdout.count("unchanged since build") == 2

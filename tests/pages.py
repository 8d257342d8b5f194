"""A page of docs/, run word for word.

A block of `python`, `yaml` or `toml` that begins with `# NAME.EXT` is that file, one of `diff` is applied, one of `sh`
is typed. Blocks of other languages are left alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from sybil import Example
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[1]
FILES = ("python", "yaml", "toml")


def run_page(page: Path, folder: Path, *after: str) -> str:
    """What the page's commands print in `folder`.

    Args:
        page: Markdown.
        folder: where files are written and patched and commands are typed, in the page's order.
        after: more commands, typed at the end.
    """
    printed: list[str] = []

    def write(example: Example) -> None:
        name = re.match(r"# (\S+\.\w+)\n", example.parsed)
        assert name, f"the first line names the file: {example.parsed[:60]!r}"
        path = folder / name[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(example.parsed)

    def patch(example: Example) -> None:
        shell(f"git apply - <<'PATCH'\n{example.parsed}PATCH\n", folder)

    def type_in(example: Example) -> None:
        printed.append(shell(example.parsed, folder))

    parsers = [
        *(CodeBlockParser(language, write) for language in FILES),
        CodeBlockParser("diff", patch),
        CodeBlockParser("sh", type_in),
    ]
    for example in Document.parse(str(page), *parsers):
        example.evaluate()
    return "".join([*printed, *(shell(command, folder) for command in after)])


def shell(script: str, folder: Path) -> str:
    """What a script prints, with the repository's own commands and code; a command of it that fails is an error."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "REGIOLECT_HOME": str(folder / "home"),
        # A patch is of this folder, wherever it lies.
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
    }
    command = ["/bin/bash", "-e", "-o", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout

"""Build the site: `python -m docs.from_code.site FOLDER`.

Zensical gets the repository's own tree of pages, so that a link holds in both, and a page for each part of the package.
A link or an anchor that leads nowhere fails the build.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from docs.from_code.code import ROOT, layers

# What a link in a page may lead to beside pages: it is served as it is.
SERVED = ("docs/images", "tests", "benchmarks/results", "examples", "region_policies")


def build(folder: Path) -> None:
    """Write the site into `folder`, in place of what was there.

    Raises:
        CalledProcessError: a page, a link or an anchor is missing; Zensical has said which.
    """
    with tempfile.TemporaryDirectory(prefix="regiolect-site-") as temporary:
        pages = Path(temporary) / "pages"
        for path in (*kept("*.md"), *kept(*SERVED)):
            (pages / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, pages / path)
        (pages / "api").mkdir()
        for name in _parts():
            (pages / "api" / f"{name}.md").write_text(_api(name))
        shutil.copy(ROOT / "docs" / "site" / "extra.css", pages)
        config = Path(temporary) / "mkdocs.yml"
        config.write_text(yaml.safe_dump(configuration(), sort_keys=False))
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(config)]
        subprocess.run(command, check=True, cwd=ROOT)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(Path(temporary) / "site", folder)


def configuration() -> dict[str, Any]:
    """docs/site/mkdocs.yml, with what its navigation does not list by hand."""
    stated: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "site" / "mkdocs.yml").read_text())
    decisions = [path for path in kept("docs/adr/*.md") if not path.endswith("README.md")]
    stated["nav"] += [
        {"Decisions": ["docs/adr/README.md", *decisions]},
        {"Examples, results": kept("examples/*.md", "benchmarks/*.md", "tests/*.md")},
        {"Python API": [{name: f"api/{name}.md"} for name in _parts()]},
    ]
    stated["plugins"][1]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    return stated


def kept(*what: str) -> list[str]:
    """Files that git keeps, or would."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "--", *what]
    return sorted(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def _parts() -> list[str]:
    """The package, and its parts in alphabetical order."""
    return ["regiolect", *sorted(f"regiolect.{name}" for row in layers() for name in row)]


def _api(name: str) -> str:
    """A part's page: what it exports; of one that exports nothing, its modules."""
    folder = ROOT.joinpath(*name.split("."))
    start = folder / "__init__.py"
    if name == "regiolect" or not start.exists() or "__all__" in start.read_text():
        return f"# {name}\n\n::: {name}\n"
    modules = sorted(path.stem for path in folder.glob("[a-z]*.py"))
    sections = (f"## {name}.{each}\n\n::: {name}.{each}\n    options: {{heading_level: 3}}\n" for each in modules)
    return "\n".join([f"# {name}\n\n::: {name}\n", *sections])


if __name__ == "__main__":
    build(Path(sys.argv[1]))

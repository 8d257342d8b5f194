"""The toy backend of docs/extending/backend.md, as good as installed: its files, and what pip writes beside them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.pages import ROOT, run_page

PAGE = ROOT / "docs" / "extending" / "backend.md"


def installed(folder: Path) -> tuple[str, str]:
    """Write the page's files below `folder`, and the metadata of the distribution; both are to be on the path.

    Returns:
        What PYTHONPATH takes for it.
    """
    package = folder / "package"
    run_page(PAGE, package)
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
    points = [
        f"[{group}]\n" + "".join(f"{point} = {value}\n" for point, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (place / "entry_points.txt").write_text("\n".join(points))
    return str(folder), str(package)

"""The toy backend, as good as installed: `tests/toy_backend` with what pip writes beside a package."""

from __future__ import annotations

import tomllib
from pathlib import Path

PACKAGE = Path(__file__).parent / "toy_backend"


def installed(folder: Path) -> tuple[str, str]:
    """Write the metadata of the distribution, from its pyproject.toml, below `folder`; both are to be on the path.

    Returns:
        What PYTHONPATH takes for it.
    """
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
    points = [
        f"[{group}]\n" + "".join(f"{point} = {value}\n" for point, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (place / "entry_points.txt").write_text("\n".join(points))
    return str(folder), str(PACKAGE)

"""`regiolect init`: a project to start from."""

from __future__ import annotations

import runpy
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

_EXAMPLE = (
    "regiolect plan                 # what a run would do, and why",
    "regiolect run                  # builds, judges and registers an engine for each region",
)
_OWN = (
    "python prepare.py              # writes your samples where models.py reads them",
    "regiolect policies validate",
    *_EXAMPLE,
)


def init(
    folder: Annotated[
        Path, typer.Argument(help="Where to write; made where it is not there.", show_default=False)
    ] = Path(),
    model: Annotated[
        Path | None, typer.Option("--from", help="An .onnx file of yours; its inputs and outputs are filled in.")
    ] = None,
) -> None:
    """Write a model, a script for its data, policies and regiolect.toml, as a start; no file is overwritten.

    An example that runs as it stands, on simulated data; or with --from what goes around a model of yours, in which
    what only you know is left to be filled in: until then every command ends at the line that is missing.

    Examples: regiolect init shop or regiolect init shop --from model.onnx
    """
    from regiolect.cli import scaffold
    from regiolect.errors.output import LAYOUT, printable

    _require_onnx()
    texts = scaffold.example(folder) if model is None else scaffold.around(model, folder)
    written = scaffold.write(folder, texts, also=scaffold.MADE if model is None else ())
    typer.echo(printable(f"wrote    {', '.join(written)}", LAYOUT))
    if model is None:
        _prepare(folder / scaffold.PREPARE)
        typer.echo(f"made     {', '.join(scaffold.MADE)}, by {scaffold.PREPARE}; the samples are SIMULATED")
    for path, lines in scaffold.unfilled(texts):
        typer.echo(printable(f"fill in  {path}, line {', '.join(map(str, lines))}", LAYOUT))
    for number, step in enumerate((*_ahead(folder), *(_EXAMPLE if model is None else _OWN))):
        typer.echo(printable(f"{'         ' if number else 'next     '}{step}", LAYOUT))


def _require_onnx() -> None:
    from regiolect.errors import BackendUnavailable

    if find_spec("onnx") is None:
        raise BackendUnavailable(
            expected="what a release needs to be installed",
            found="no module named 'onnx'",
            remedy="pip install 'regiolect[release]'",
        )


def _prepare(script: Path) -> None:
    runpy.run_path(str(script), run_name="__main__")


def _ahead(folder: Path) -> Iterator[str]:
    if folder.resolve() != Path.cwd().resolve():
        yield f"cd {shlex.quote(str(folder))}"

"""The files that `regiolect init` writes: an example that runs, or what goes around a model of the user's."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from regiolect.errors import UsageError
from regiolect.integrity import write_atomic
from regiolect.policy import write_schema

if TYPE_CHECKING:
    from regiolect.export.interface import Interface

SETTINGS, MODELS, PREPARE, SCHEMA = "regiolect.toml", "models.py", "prepare.py", "policies/schema.json"
POLICIES = ("policies/eu.yaml", "policies/na.yaml")
MADE = ("model.onnx", "data")
"""What the example's prepare.py makes."""


def example(folder: Path) -> dict[str, str]:
    """An example that runs as it stands, by paths in the folder."""
    return _filled("example", {"name": _model_name(folder.resolve().name), "shapes": ""})


def around(model: Path, folder: Path) -> dict[str, str]:
    """What goes around an .onnx file, which stays where it is. What only its owner knows is left as a call of
    `fill_in`, or as FILL IN in a policy: each is an error that tells its line.

    Raises:
        InvalidOnnx, InvalidModelSpec: as of `interface_of`.
    """
    from regiolect.export.interface import interface_of

    interface = interface_of(model)
    return _filled(
        "own",
        {
            "name": _model_name(folder.resolve().name),
            "path": _from(folder, model),
            "sources": _tuple(f"HERE / {_from(folder, weights)}" for weights in interface.weights),
            "inputs": _inputs(interface),
            "outputs": _tuple(map(_text, interface.outputs)),
            "arrays": "\n".join(_arrays(interface)),
            "shapes": _shapes(interface.free),
        },
    )


def write(folder: Path, texts: Mapping[str, str], also: Iterable[str] = ()) -> tuple[str, ...]:
    """Write the files, and the schema of policies beside them.

    Args:
        folder: made where it is not there.
        texts: their texts, by paths in the folder.
        also: what else will be made there.

    Returns:
        The paths that were written.

    Raises:
        UsageError: something has one of these names already; nothing is written then.
        StorageError: the folder cannot be written.
    """
    paths = (*texts, SCHEMA)
    there = [path for path in (*paths, *also) if os.path.lexists(folder / path)]
    if there:
        raise UsageError(
            expected=f"none of {', '.join((*paths, *also))} in {folder.absolute()}",
            found=", ".join(there),
            remedy="choose another folder: regiolect init FOLDER; nothing was written, for nothing is overwritten",
        )
    for path, text in texts.items():
        write_atomic(folder / path, text.encode())
    write_schema(folder / SCHEMA)
    return paths


def unfilled(texts: Mapping[str, str]) -> Iterator[tuple[str, list[int]]]:
    """The lines of each file that only its owner can fill in, where there are any."""
    for path, text in texts.items():
        lines = [
            number for number, line in enumerate(text.splitlines(), 1) if re.search(r"(?<!def )fill_in\(|FILL", line)
        ]
        if lines:
            yield path, lines


def _filled(kind: str, values: Mapping[str, str]) -> dict[str, str]:
    templates = {
        SETTINGS: SETTINGS,
        MODELS: f"{kind}_{MODELS}.txt",
        PREPARE: f"{kind}_{PREPARE}.txt",
        **{policy: policy for policy in POLICIES},
    }
    folder = files("regiolect.cli") / "templates"
    return {
        path: Template(folder.joinpath(name).read_text("utf-8")).substitute(values) for path, name in templates.items()
    }


def _model_name(given: str) -> str:
    """A name that a model may have, like the given one."""
    name = "-".join(re.findall(r"[a-z0-9]+", given.lower()))
    return name if name[:1].isalpha() else "-".join(filter(None, ("model", name)))


def _from(folder: Path, path: Path) -> str:
    return _text(Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix())


def _text(value: str) -> str:
    """As Python and YAML write it."""
    return json.dumps(value, ensure_ascii=False)


def _word(name: str) -> str:
    """As a key of YAML and in a comment, neither of which a name may end."""
    return name if name.isidentifier() else _text(name)


def _tuple(items: Iterable[str]) -> str:
    listed = tuple(items)
    return f"({', '.join(listed)}{',' * (len(listed) == 1)})"


def _inputs(interface: Interface) -> str:
    specs = [
        f'TensorSpec(name={_text(each.name)}, dtype="float32", shape={_shape(each.shape)})' for each in interface.inputs
    ]
    free = ", ".join(("batch", *map(_word, interface.free)))
    lines = (f"# {free}: of any size.", *(f"{spec}," for spec in specs))
    return "\n".join(("(", *(f"        {line}" for line in lines), "    )"))


def _shape(shape: tuple[int | str, ...]) -> str:
    return _tuple(_text(size) if isinstance(size, str) else str(size) for size in shape)


def _arrays(interface: Interface) -> Iterator[str]:
    for tensor in interface.inputs:
        shape = ", ".join(("n", *map(str, tensor.shape[1:])))
        wanted = _text(f"raw values, integers or floats of shape ({shape})")
        yield f"            {_text(tensor.name)}: fill_in({wanted}),"


def _shapes(free: tuple[str, ...]) -> str:
    lines = (f"  {_word(name)}: {{min: FILL IN, opt: FILL IN, max: FILL IN}}\n" for name in free)
    return "".join(("shapes:\n", *lines)) if free else ""

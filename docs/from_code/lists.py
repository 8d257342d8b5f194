"""Backends, settings and commands, as the code has them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer.main

from docs.from_code.code import ROOT, parsed, project, table
from regiolect.cli.app import app
from regiolect.contracts import Precision
from regiolect.engines.base import Backend
from regiolect.engines.catalog import backend
from regiolect.engines.listed import OWN
from regiolect.precision import WIDEST_FIRST, Recipe
from regiolect.settings import OF_THE_MACHINE, Settings, key, variable

# ------------------------------------------------------------------------------------------------ backends


def backends() -> str:
    """The page of backends."""
    every = [backend(name) for name in OWN]
    rows = [
        (
            f"[`{each.name}`](#{each.name})",
            f"`{each.distribution}`",
            ", ".join(f"`{name}`" for name in each.file_names),
            *(_written(each, precision) for precision in Precision),
            "of the processor" if each.classed else "none",
        )
        for each in every
    ]
    head = ("backend", "library", "engine files", *(precision.value for precision in Precision), "arithmetic class")
    widths = ", ".join(execution.value for execution in WIDEST_FIRST)
    return "\n\n".join(
        [
            "# Backends",
            "What a policy may name as `backend` of a target. A target's engine is built and run through it."
            " [Targets](../targets.md) says what of each was seen to run, and where. Other distributions may"
            " [bring more](../extending/backend.md).",
            table(head, rows),
            "Under a precision stands how its graph is written: the integer type of activations, and the type of all"
            f" that is not quantized. What a kernel executes may be wider, never coarser; from wide to coarse:"
            f" {widths}."
            " What an engine does execute is [attested](../attestation.md).",
            *(_section(each) for each in every),
        ]
    )


def _written(each: Backend, precision: Precision) -> str:
    if precision not in each.recipes:
        return "none"
    recipe: Recipe = each.recipe(precision, None)
    integers = "" if recipe.activation is None else f"{recipe.activation}, else "
    return f"{integers}{recipe.remainder.value}"


def _section(each: Backend) -> str:
    extra = project()["project"]["optional-dependencies"][each.name]
    index = " --extra-index-url https://pypi.nvidia.com" if each.name == "tensorrt" else ""
    also = f" {_listed(each.carried_by)} runs its engines as well." if each.carried_by else ""
    parts = [
        f"## {each.name}",
        inspect.cleandoc(type(each).__doc__ or ""),
        f"```sh\npip install 'regiolect[{each.name}]'{index}\n```",
        f"The extra brings {_listed(tuple(line.partition(';')[0].strip() for line in extra))}.{also}",
    ]
    if each.tunable:
        parts.append(f"[Tuning](../tuning.md) may set {_listed(tuple(sorted(each.tunable)))}.")
    fields = each.options.model_fields
    if fields:
        parts.append(f"`options` of a target ([an example](../targets.md#options)):\n\n{_options(fields)}")
    return "\n\n".join(parts)


def _options(fields: Mapping[str, Any]) -> str:
    return table(
        ("option", "values", "default", "what it is"),
        [
            (f"`{name}`", _values(field.annotation), _default(field.default), field.description)
            for name, field in fields.items()
        ],
    )


def _listed(values: tuple[str, ...]) -> str:
    *others, last = (f"`{value}`" for value in values)
    return f"{', '.join(others)} and {last}" if others else last


def _values(annotation: Any) -> str:
    """The values that a field takes, in words."""
    if isinstance(annotation, type):
        words = {bool: "yes or no", int: "a whole number", float: "a number", str: "text", Path: "a path"}
        return words.get(annotation, annotation.__name__)
    arguments = [each for each in getattr(annotation, "__args__", ()) if each not in (type(None), Ellipsis)]
    if all(isinstance(each, str) for each in arguments):
        return ", ".join(f"`{each}`" for each in arguments)
    return " or ".join(_values(each) for each in arguments)


def _default(value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value.value if isinstance(value, Enum) else f'{value:g}' if isinstance(value, float) else value}`"


# ------------------------------------------------------------------------------------------------ settings


def settings() -> str:
    """The page of settings."""
    meanings = _meanings()
    of_fields = {variable(name) for name in Settings.model_fields}
    others = {name: told for name, told in _others().items() if name not in of_fields}
    return "\n\n".join(
        [
            "# Settings",
            "A setting is a variable of the environment, or a key of the project's file: `regiolect.toml`, or the"
            " table `[tool.regiolect]` of a `pyproject.toml`, in the working directory or the nearest folder above"
            " it that has one. `regiolect init` writes one. An option of a command goes before the environment, the"
            " environment before the file, and the file before the default.",
            _EXAMPLE,
            "A path in the file is taken from the file's folder, in which `home` is as well when it is not stated;"
            " one in the environment from the working directory of the process that reads it first. A model is"
            " imported from the working directory or from the file's folder. A value that cannot be used, or a key"
            " that there is not, ends the command as [`InvalidSetting`](errors.md#invalidsetting), with the name of"
            " the file ([ADR 37](../adr/0037-a-projects-file.md)).",
            *(_setting(name, field, meanings[name]) for name, field in Settings.model_fields.items()),
            *(f"## {name}\n\nRead in `{where}`. {told}" for name, (where, told) in others.items()),
        ]
    )


_EXAMPLE = """```toml
# regiolect.toml
model = "models:MODEL"
policies = "policies"
store = "s3://engines-{region}"
mlflow_tracking_uri = "https://mlflow.example.com"
```"""


def _setting(name: str, field: Any, meaning: str) -> str:
    default = _default(field.default)
    values = _values(field.annotation)
    head = f"{values[0].upper()}{values[1:]}; default {default}." if default else f"{values[0].upper()}{values[1:]}."
    in_file = "Not in a file" if name in OF_THE_MACHINE else f"In a file: `{key(name)}`"
    return f"## {variable(name)}\n\n{in_file}. {head}\n\n{meaning[0].upper()}{meaning[1:]}"


def _variable(word: str) -> str:
    """A field as the environment names it; any other word as it is."""
    return variable(word) if word in Settings.model_fields else word


def _meanings() -> dict[str, str]:
    """What the docstring of Settings says of each field."""
    meanings: dict[str, str] = {}
    for paragraph in re.split(r"\n(?=\w[\w, ]*: )", inspect.cleandoc(Settings.__doc__ or "")):
        told, _, meaning = paragraph.partition(": ")
        for name in told.split(", "):
            text = " ".join(meaning.split()).removeprefix(f"{_variable(name)}, ")
            meanings[name] = re.sub(r"`(\w+)`", lambda found: f"`{_variable(found[1])}`", text)
    return meanings


def _others() -> dict[str, tuple[str, str]]:
    """Variables that a constant of the code names: where, with the text that stands under or above it."""
    found: dict[str, tuple[str, str]] = {}
    for path, module in parsed():
        lines = (ROOT / path).read_text().splitlines()
        for node, after in pairwise([*module.body, ast.Pass()]):
            match node:
                case ast.Assign(value=ast.Constant(value=str(name))) if re.fullmatch(r"REGIOLECT_[A-Z_]+", name):
                    said = after.value if isinstance(after, ast.Expr) else None
                    under = said.value if isinstance(said, ast.Constant) else None
                    found.setdefault(name, (str(path), str(under or lines[node.lineno - 2].removeprefix("# "))))
    return found


# ------------------------------------------------------------------------------------------------ commands


def commands() -> str:
    """The page of commands."""
    every = list(_commands(typer.main.get_command(app), "regiolect"))
    rows = [(f"[`{path}`](#{path.replace(' ', '-')})", _summary(command)) for path, command in every[1:]]
    return "\n\n".join(
        [
            "# Commands",
            "`regiolect COMMAND --help` says the same of each. [How commands end](../commands.md) tells exit codes,"
            " interrupts and what is written where.",
            table(("command", "what it does"), rows),
            *(_command(path, command) for path, command in every[1:]),
        ]
    )


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    if not inner or path == "regiolect":
        yield path, command
    for name, each in inner.items():
        yield from _commands(each, f"{path} {name}")


def _summary(command: Any) -> str:
    return " ".join((command.help or "").partition("\n\n")[0].split())


def _command(path: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    told = "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n"))
    rows = [(f"`{_argument(each)}`", "", each.help or "") for each in arguments]
    rows += [(", ".join(f"`{name}`" for name in each.opts), _given(each.default), each.help or "") for each in options]
    taken = [table(("option", "default", "what it does"), rows)] if rows else []
    return "\n\n".join([f"## {path}", f"```sh\n{usage}\n```", told, *taken])


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper()
    name = f"{name}..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def _given(default: object) -> str:
    return "" if default is False or callable(default) else _default(default)

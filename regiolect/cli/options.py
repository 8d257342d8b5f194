"""Options that several commands take, what completes them, and what they lead to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from regiolect.errors.output import LAYOUT, printable

if TYPE_CHECKING:
    from pydantic import BaseModel

    from regiolect.errors import RegiolectError
    from regiolect.policy import PolicyBook
    from regiolect.settings import Settings


def known_models(incomplete: str) -> list[str]:
    """Completion of a model: those that the settings and this installation know."""
    return [model for model in _completing(lambda: settings_with(None).known_models()) if model.startswith(incomplete)]


def known_regions(context: typer.Context, incomplete: str) -> list[str]:
    """Completion of the last of several regions: those that have a policy and are not named yet."""
    before, comma, last = incomplete.rpartition(",")
    regions = _completing(lambda: policy_book(context.params.get("policies")).regions())
    left = [region for region in regions if region.startswith(last) and region not in before.split(",")]
    return [f"{before}{comma}{region}" for region in left]


def _completing(names: Callable[[], Sequence[str]]) -> Sequence[str]:
    """Nothing where there is an error: the command that is being typed will tell it.

    Shells evaluate what they are given, so that names with signs of theirs are left out.
    """
    from regiolect.errors import RegiolectError

    try:
        return [name for name in names() if re.fullmatch(r"[\w.:-]+", name)]
    except RegiolectError:
        return ()


def chosen_model(given: str | None) -> str:
    """The model that a command was told, or else the one that the settings name.

    Raises:
        UsageError: they name none.
    """
    from regiolect.errors import UsageError

    model = settings_with(None).model if given is None else given
    if model is None:
        raise UsageError(
            expected="a model, package.module:NAME of its ModelSpec or an entry point",
            found="none on the command line, none in REGIOLECT_MODEL or regiolect.toml",
            remedy='name it, or write model = "package.module:NAME" into regiolect.toml; '
            "`regiolect init` makes an example of both",
        )
    return model


Model = Annotated[
    str | None,
    typer.Argument(
        help="The model: package.module:NAME of its ModelSpec, or an entry point; default: the settings' model.",
        autocompletion=known_models,
        show_default=False,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Argument(help="Models; default: all that are known.", autocompletion=known_models),
]


def named(context: typer.Context, param: typer.CallbackParam, value: str) -> str:
    """Callback of an option of names: left out it means all of them, and given without a name it is refused."""
    source = context.get_parameter_source(str(param.name))
    if source is not None and source.name == "COMMANDLINE" and not _names(value):
        raise _no_names(value, str(param.opts[0]))
    return value


Regions = Annotated[
    str,
    typer.Option(
        "--regions",
        "-r",
        help="Regions, separated by commas; default: all.",
        callback=named,
        autocompletion=known_regions,
    ),
]
Targets = Annotated[
    str, typer.Option("--targets", "-t", help="Targets, separated by commas; default: all.", callback=named)
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="[FILE|-]",
        help="The result as JSON: on stdout in place of words, or in FILE as well (a name that ends in .json; others: "
        "--json=FILE).",
    ),
]
STDOUT = Path("-")
"""A result that goes there as JSON is all that does."""
Policies = Annotated[
    Path | None, typer.Option("--policies", help="Folder of region policies; default: the settings', else built in.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every step, and what the libraries log.")]
Force = Annotated[bool, typer.Option("--force", help="Build again what did not change.")]


class Telling(TyperCommand):
    """A command that takes `--json`, whose FILE may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [*_with_place(args)])


def _with_place(args: Sequence[str]) -> Iterator[str]:
    """A word after `--json` that is no file's name belongs to the command."""
    end = args.index("--") if "--" in args else len(args)
    for number, (arg, following) in enumerate(zip(args, [*args[1:], ""], strict=False)):
        is_place = following == STDOUT.name or following.endswith(".json")
        yield f"--json={STDOUT}" if arg == "--json" and number < end and not is_place else arg


def require_writable(json_file: Path | None) -> None:
    """Find out before the work rather than after it.

    Raises:
        StorageError: the result cannot be written there.
    """
    if json_file is not None and json_file != STDOUT:
        from regiolect.integrity import write_atomic

        write_atomic(json_file, b"{}")


def tell(result: BaseModel, json_file: Path | None, say: Callable[[], object]) -> None:
    """Tell a result, in words and as JSON, where `--json` asks for it.

    Args:
        say: prints it in words; not called where JSON takes their place.

    Raises:
        StorageError: the file cannot be written.
    """
    if json_file != STDOUT:
        say()
    if json_file == STDOUT:
        typer.echo(printable(result.model_dump_json(indent=2), LAYOUT))
    elif json_file is not None:
        from regiolect.integrity import write_atomic

        write_atomic(json_file, result.model_dump_json(indent=2).encode())


def names_in(option: str) -> list[str] | None:
    """The names that stand in an option, separated by commas; None if it is empty: all are meant.

    Raises:
        UsageError: there are commas or spaces alone, as of a script whose variable is empty.
    """
    if option and not _names(option):
        raise _no_names(option, "the option")
    return _names(option) or None


def _names(option: str) -> list[str]:
    return [name.strip() for name in option.split(",") if name.strip()]


def _no_names(option: str, name: str) -> RegiolectError:
    from regiolect.errors import UsageError

    return UsageError(
        expected=f"one name or several, separated by commas, in {name}",
        found=repr(option),
        remedy=f"name what is meant; to mean all of them, leave {name} out",
    )


def use_policies(policies: Path | None) -> None:
    """Put --policies where settings, workers and tasks read it."""
    if policies is not None:
        os.environ["REGIOLECT_POLICIES"] = str(policies.absolute())


def settings_with(policies: Path | None) -> Settings:
    """The settings, with --policies in place of what they say of policies."""
    from regiolect.settings import load_settings

    use_policies(policies)
    return load_settings()


def policy_book(policies: Path | None) -> PolicyBook:
    """The policies of that folder; None: of the settings' folder."""
    from regiolect.policy import PolicyBook

    return PolicyBook(settings_with(policies).policies)

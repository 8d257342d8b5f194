"""The fields of the forms in which people start runs: titles, descriptions, and what there is to choose from.

What can be chosen is read from the policies and the known models when Prefect asks for a flow's schema, which it does
each time that a deployment is written: those `offering` names, else those of the environment. It goes into the form
alone: the server refuses a choice that the form does not offer, while a flow that is called from Python takes any value
and says itself what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema

from regiolect.errors import RegiolectError
from regiolect.policy import PolicyBook
from regiolect.settings import Settings

Schema = dict[str, Any]
Known = Callable[[], tuple[str, ...]]

_OFFERED: ContextVar[tuple[PolicyBook, Settings] | None] = ContextVar("_OFFERED", default=None)


@contextmanager
def offering(book: PolicyBook, settings: Settings) -> Iterator[None]:
    """Schemas that are made inside offer what these policies and settings say."""
    token = _OFFERED.set((book, settings))
    try:
        yield
    finally:
        _OFFERED.reset(token)


def models() -> tuple[str, ...]:
    """The models that a form offers; none where the settings are unusable."""
    settings = _settings()
    return settings.known_models() if settings is not None else ()


def regions() -> tuple[str, ...]:
    """Regions with a policy, in alphabetical order."""
    book = _book()
    return book.regions() if book is not None else ()


def targets() -> tuple[str, ...]:
    """Targets of all policies that can be read, in alphabetical order."""
    book = _book()
    return tuple(sorted(set(_targets(book)))) if book is not None else ()


@dataclass(frozen=True)
class OneOf:
    """A list to choose one from; free text where nothing is known."""

    known: Known

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        return {"type": "string", **_enum(self.known())}


@dataclass(frozen=True)
class AnyOf:
    """A list to choose several from.

    The schema does not speak of null, for which Prefect's pages would first ask people to choose between `list` and
    `None`: nothing chosen is an empty list, and the flows take that for all.
    """

    known: Known

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        return {"type": "array", "items": {"type": "string", **_enum(self.known())}, "uniqueItems": True}


def _field(title: str, description: str, **more: Any) -> Any:
    # Prefect overwrites a field's own title and description, and takes over what is extra.
    return Field(json_schema_extra={"title": title, "description": description, **more})


ModelName = Annotated[
    str,
    OneOf(models),
    _field("Model", "The trained model: an installed entry point, or package.module:NAME of its ModelSpec."),
]
Models = Annotated[
    list[str] | None,
    AnyOf(models),
    _field("Models", "Which models; none chosen means all that are known.", default=[]),
]
Regions = Annotated[
    list[str] | None,
    AnyOf(regions),
    _field("Regions", "Which regions; none chosen means every region that has a policy and data.", default=[]),
]
Targets = Annotated[
    list[str] | None,
    AnyOf(targets),
    _field("Targets", "Which targets; none chosen means every target of these regions' policies.", default=[]),
]
Force = Annotated[
    bool,
    _field("Force", "Build again what did not change, and ask again whoever said no. Takes as long as the first time."),
]
RegionName = Annotated[str, OneOf(regions), _field("Region", "Which region's engine.")]
TargetName = Annotated[str, OneOf(targets), _field("Target", "The engine's target, in whose pool this runs.")]
Minutes = Annotated[
    float,
    _field("Minutes", "How long measuring may take, on each engine. The machine does nothing else meanwhile."),
]
Anew = Annotated[
    bool,
    _field("Anew", "Forget what was measured before; else an interrupted tuning goes on where it was stopped."),
]
Drills = Annotated[
    bool,
    _field("Drills", "Also try three engines that must be refused, and say whether they were."),
]
DryRun = Annotated[
    bool,
    _field("Dry run", "Only say what would be built and why; nothing is built or registered."),
]


def _enum(choices: tuple[str, ...]) -> Schema:
    return {"enum": list(choices)} if choices else {}


def _settings() -> Settings | None:
    if offered := _OFFERED.get():
        return offered[1]
    # Schemas are also made when a flow is imported, where wrong settings and policies are not the matter yet; whatever
    # needs them says what is wrong.
    try:
        return Settings()
    except (ValidationError, RegiolectError):
        return None


def _book() -> PolicyBook | None:
    if offered := _OFFERED.get():
        return offered[0]
    settings = _settings()
    try:
        return PolicyBook(settings.policies) if settings is not None else None
    except RegiolectError:
        return None


def _targets(book: PolicyBook) -> Iterator[str]:
    for region in book.regions():
        try:
            yield from (target.name for target in book.load(region).targets)
        except RegiolectError:
            continue

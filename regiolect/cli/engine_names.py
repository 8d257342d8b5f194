"""How a person names an engine: by a bundle's folder, a registered version, or the first digits of a build key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from regiolect.bundle.manifest import MANIFEST
from regiolect.contracts import RegionOutcome, RegisteredEngine, RegisteredVersion
from regiolect.errors import RegiolectError, StorageError, UsageError
from regiolect.errors.redaction import redacted_address
from regiolect.planning import OUTCOMES, load_model_spec
from regiolect.policy import PolicyBook
from regiolect.registry import CHAMPION, Registry
from regiolect.settings import Settings
from regiolect.storage import Store


def bundle_called(name: str) -> Path | None:
    """The folder of that name, if it is a bundle's."""
    folder = Path(name)
    return folder if (folder / MANIFEST).is_file() else None


def version_called(name: str, registry: Registry) -> RegisteredEngine | None:
    """The registered version of a name: `MODEL-REGION`, which is its champion, `MODEL-REGION@ALIAS` or
    `MODEL-REGION/NUMBER`, as MLflow writes it or without `models:/`; None if there is none.

    Raises:
        RegistryError: the registry cannot be read.
        UsageError: a number is named of what is not registered.
    """
    model, _, alias = name.removeprefix("models:/").partition("@")
    model, _, number = model.partition("/")
    # MLflow refuses to be asked for a path.
    if not model or set(model) & set("/\\:.") or (number and (alias or not number.isdecimal())):
        return None
    if not number:
        return registry.by_alias(model, alias or CHAMPION)
    versions = (each for each in registry.versions((model,)) if each.version == int(number))
    return next((_as_engine(each) for each in versions), None)


def _as_engine(version: RegisteredVersion) -> RegisteredEngine:
    champion = CHAMPION in version.aliases
    return RegisteredEngine(name=version.name, version=version.version, uri=version.uri, champion=champion)


def nothing_called(name: str, settings: Settings) -> UsageError:
    """The error of a name that nothing has."""
    kind = f"a folder without {MANIFEST}, and " if Path(name).is_dir() else ""
    return UsageError(
        expected="MODEL-REGION with an alias or a version's number, a bundle's folder, or the start of a build key",
        found=f"{kind}nothing called {name!r} in {redacted_address(settings.tracking_uri)} or {settings.home}",
        remedy="take a name that regiolect list or history tells, or run `regiolect run MODEL` first; for the key of "
        "an engine whose region was given up, name its model in REGIOLECT_MODELS",
    )


def outcome_called(start: str, settings: Settings) -> tuple[RegionOutcome, Store] | None:
    """The outcome whose build key begins so, and the store that keeps it: what belongs to no region, then each region's
    that there is; None if there is none, or too few digits.

    Raises:
        RegiolectError: none of the stores has it, and one cannot be looked into, or a model that may name one cannot be
            loaded.
    """
    digits = start.removeprefix("sha256:")
    if len(digits) < 6 or set(digits) - set("0123456789abcdef"):
        return None
    closed: list[RegiolectError] = []
    for region in _regions(settings, closed):
        try:
            store = settings.store() if region is None else settings.find_store(region)
            outcome = None if store is None else _kept(store, digits)
        except StorageError as error:
            closed.append(error)
            continue
        if store is not None and outcome is not None:
            return outcome, store
    if closed:
        raise closed[0]
    return None


def _regions(settings: Settings, closed: list[RegiolectError]) -> Iterator[str | None]:
    """Whose stores there may be: what belongs to no region, regions with a policy, and those that were given up, which
    are still in the data of a model that is known here. Models that cannot be loaded go into `closed`."""
    named = PolicyBook(settings.policies).regions()
    yield from (None, *named)
    given_up: set[str] = set()
    for address in settings.known_models() if settings.store_by_region else ():
        try:
            given_up.update(load_model_spec(address).data)
        except RegiolectError as error:
            closed.append(error)
    yield from sorted(given_up.difference(named))


def _kept(store: Store, digits: str) -> RegionOutcome | None:
    key = next((key for key in store.record_keys(OUTCOMES) if key.startswith(digits)), None)
    return None if key is None else store.get_record(OUTCOMES, key, RegionOutcome)

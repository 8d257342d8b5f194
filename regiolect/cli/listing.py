"""`regiolect list`: what is registered, and what of it is served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from regiolect.cli.options import JsonFile, Policies, settings_with, tell

if TYPE_CHECKING:
    from regiolect.contracts import ListedModel, RegisteredVersion, RegistryListing
    from regiolect.policy import PolicyBook
    from regiolect.settings import Settings

_POLICY = {"same": "today's", "changed": "changed", "unusable": "unusable", "none": "none"}


def list_registered(json_file: JsonFile = None, policies: Policies = None) -> None:
    """Say what is registered: a line for each model and region, with the version that consumers load.

    The last column tells whether today's policy of the region is the one that it was approved under; `regiolect audit`
    tells whether today's policy still allows it.
    """
    from regiolect.contracts import RegistryListing
    from regiolect.errors.redaction import redacted_address
    from regiolect.policy import PolicyBook
    from regiolect.progress import watching
    from regiolect.registry import Registry

    settings = settings_with(policies)
    book = PolicyBook(settings.policies)
    with watching(verbose=False):
        versions = Registry.of(settings).versions(regions=book.regions())
    models = tuple(_models(versions, book, settings))
    listing = RegistryListing(registry=redacted_address(settings.tracking_uri), models=models)
    tell(listing, json_file, lambda: print_listing(listing))


def _models(versions: Sequence[RegisteredVersion], book: PolicyBook, settings: Settings) -> Iterator[ListedModel]:
    from regiolect.contracts import ListedModel
    from regiolect.registry import CHALLENGER

    for name, group in groupby(versions, key=lambda version: version.name):
        of_name = tuple(group)
        champion = next((each for each in of_name if each.champion), None)
        yield ListedModel(
            name=name,
            model=of_name[-1].model,
            region=of_name[-1].region,
            champion=champion,
            challenger=next((each for each in of_name if CHALLENGER in each.aliases), None),
            policy=None if champion is None else _policy(champion, book, settings),
        )


def _policy(
    champion: RegisteredVersion, book: PolicyBook, settings: Settings
) -> Literal["same", "changed", "unusable", "none"]:
    from regiolect.errors import RegiolectError, StorageError
    from regiolect.planning.kept import policy_of

    if champion.region not in book.regions():
        return "none"
    try:
        today = book.load(champion.region)
    except RegiolectError:
        return "unusable"
    # Engines are signed with the words that the policy had when the first of them was built; others are no change.
    words = [today]
    with suppress(StorageError):
        store = settings.find_store(champion.region)
        first = None if store is None else policy_of(today.demands_digest(), store)
        words += [] if first is None else [first]
    return "same" if champion.policy in [policy.digest() for policy in words] else "changed"


def print_listing(listing: RegistryListing) -> None:
    """A line for each registered model; below, what waits beside the champions."""
    from rich.table import Table

    from regiolect.cli.terminal import out, shown
    from regiolect.report.words import counted

    console = out()
    table = Table(box=None, pad_edge=False)
    for name in ("model", "region", "version", "precision", "backend", "since", "policy"):
        table.add_column(name, overflow="fold", justify="right" if name == "version" else "left")
    for model in listing.models:
        table.add_row(*map(shown, _cells(model)))
    if listing.models:
        console.print(table)
    for model in listing.models:
        waits = model.challenger
        if waits is not None:
            console.print(f"{shown(waits.uri)} waits as challenger: {shown(waits.held or 'no reason is kept')}")
    served = sum(model.champion is not None for model in listing.models)
    count = f"{counted(len(listing.models), 'registered model')}, {served} served"
    console.print(f"{count}; registry {shown(listing.registry)}", soft_wrap=True)


def _cells(listed: ListedModel) -> tuple[str, ...]:
    name, champion = (listed.model or listed.name, listed.region or "-"), listed.champion
    if champion is None or listed.policy is None:
        return (*name, "none", "-", "-", "-", "-")
    precisions, backends = (
        ", ".join(dict.fromkeys(getattr(engine, of).partition(" ")[0] for engine in champion.engines))
        for of in ("precision", "backend")
    )
    since = champion.promoted or champion.registered
    return (*name, str(champion.version), precisions, backends, f"{since:%Y-%m-%d}", _POLICY[listed.policy])

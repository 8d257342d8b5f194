"""What a registry must hold, by records that do not lie in it: the promotions that releases kept in their stores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager

from regiolect.errors import AliasMoved, IntegrityError, VersionMissing
from regiolect.registry import CHAMPION, LiveVersion
from regiolect.signing.promotion import Promotion, kept_promotions, open_kept
from regiolect.signing.trust import Trust
from regiolect.storage import Store

FindStore = Callable[[str], Store | None]
"""A region's store by the region's name; None where it never had one."""
Finding = Callable[[], AbstractContextManager[None]]
_REMEDY = (
    "restore the registry from a backup, or release the region again; of a model that was given up on purpose, delete "
    "the record `promotions/{name}` from the region's store"
)


def promised(stores: FindStore, regions: Collection[str], trust: Trust, finding: Finding) -> dict[str, Promotion]:
    """The newest promotion of each registered model that a region's store has a signed record of.

    Args:
        finding: keeps an error of a store, or of a record that nobody signed who counts, and lets the others be read.
    """
    newest: dict[str, Promotion] = {}
    for store in _opened(stores, regions, finding):
        with finding():
            for name, kept in kept_promotions(store):
                with finding():
                    if kept is None:
                        raise IntegrityError(
                            expected=f"the promotion of {name} that its region's store holds",
                            found="a record that cannot be read, so what the registry must hold is not known",
                            remedy="release the region again, which keeps the promotion anew",
                        )
                    promotion = open_kept(kept, trust)
                    known = newest.get(promotion.name)
                    if known is None or known.version < promotion.version:
                        newest[promotion.name] = promotion
    return newest


def _opened(stores: FindStore, regions: Collection[str], finding: Finding) -> Iterator[Store]:
    opened: list[Store] = []
    for region in regions:
        with finding():
            store = stores(region)
            # All regions may share one.
            if store is not None and not any(store is other for other in opened):
                opened.append(store)
                yield store


def require_kept(promises: Mapping[str, Promotion], live: Collection[LiveVersion], finding: Finding) -> None:
    """Keep as findings the champions that a release promised and the registry does not have, or has older ones of."""
    champions = {version.name: version.version for version in live if CHAMPION in version.aliases}
    for name, promotion in sorted(promises.items()):
        found = champions.get(name)
        with finding():
            if found is None:
                raise VersionMissing(
                    expected=f"models:/{name}@champion, as a release made version {promotion.version} of it",
                    found="no champion of that name in the registry",
                    remedy=_REMEDY.format(name=name),
                )
            if found < promotion.version:
                raise AliasMoved(
                    expected=f"models:/{name}@champion at version {promotion.version}, as a release pointed it there",
                    found=f"version {found}, an older one",
                    remedy="release the region again, which points `champion` where it belongs",
                )

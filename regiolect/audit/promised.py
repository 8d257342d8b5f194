"""What a registry must hold, by records that do not lie in it: the promotions that releases kept in their stores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from regiolect.errors import AliasMoved, IntegrityError, RegiolectError, VersionMissing
from regiolect.registry import CHAMPION, LiveVersion
from regiolect.signing.promotion import PROMOTIONS, Promotion, kept_promotion, open_promotion
from regiolect.signing.trust import Trust
from regiolect.storage import Store

FindStore = Callable[[str], Store | None]
"""A region's store by the region's name; None where it never had one."""
Finding = Callable[[], AbstractContextManager[None]]
_REMEDY = (
    "restore the registry from a backup, or release the region again; of a model that was given up on purpose, delete "
    "the record `promotions/{name}` from the region's store"
)


@dataclass(frozen=True)
class Promises:
    """What regions' stores hold of promotions.

    newest: of each registered model that there is a signed record of.
    recorded: by region, the models that its store has records of, readable or not; only regions whose store was asked.
    """

    newest: Mapping[str, Promotion]
    recorded: Mapping[str, frozenset[str]]

    def lacks(self, name: str, region: str | None) -> bool:
        """Whether the store of a registered model's region was asked, and has no record of it."""
        return region is not None and region in self.recorded and name not in self.recorded[region]


def promised(stores: FindStore, regions: Collection[str], trust: Trust, finding: Finding) -> Promises:
    """What the regions' stores have records of.

    Args:
        finding: keeps an error of a store, or of a record that nobody signed who counts, and lets the others be read.
    """
    newest: dict[str, Promotion] = {}
    recorded: dict[str, frozenset[str]] = {}
    for store, of in _opened(stores, regions, finding):
        with finding():
            names = tuple(store.record_keys(PROMOTIONS))
            recorded |= dict.fromkeys(of, frozenset(names))
            for name in names:
                with finding():
                    promotion = kept_promotion(store, name, trust)
                    if name not in newest or newest[name].version < promotion.version:
                        newest[name] = promotion
    return Promises(newest, recorded)


def _opened(stores: FindStore, regions: Collection[str], finding: Finding) -> list[tuple[Store, list[str]]]:
    """Each store once, with the regions that share it."""
    opened: list[tuple[Store, list[str]]] = []
    for region in regions:
        with finding():
            store = stores(region)
            if store is None:
                continue
            sharing = next((of for other, of in opened if other is store), None)
            if sharing is None:
                opened.append((store, [region]))
            else:
                sharing.append(region)
    return opened


def require_kept(promises: Mapping[str, Promotion], live: Collection[LiveVersion], finding: Finding) -> None:
    """Keep as findings the champions that a release promised and the registry does not have, or has older ones of."""
    champions = {version.name: version.version for version in live if CHAMPION in version.aliases}
    for name, promotion in sorted(promises.items()):
        served = champions.get(name)
        with finding():
            if served is None:
                raise VersionMissing(
                    expected=f"models:/{name}@champion, as a release made version {promotion.version} of it",
                    found="no champion of that name in the registry",
                    remedy=_REMEDY.format(name=name),
                )
            if served < promotion.version:
                raise AliasMoved(
                    expected=f"models:/{name}@champion at version {promotion.version}, as a release pointed it there",
                    found=f"version {served}, an older one",
                    remedy="release the region again, which points `champion` where it belongs",
                )


def require_recorded(
    promises: Promises, live: Iterable[tuple[LiveVersion, str | None]], trust: Trust, finding: Finding
) -> None:
    """Keep as findings the champions whose record was deleted: a release that signs what lies beside a bundle keeps
    the promotion in its region's store as well.

    Args:
        live: versions, each with the region that its manifest tells; a name alone does not say where the model's ends
            and the region's begins. None: it cannot be read, which is that version's own finding.
    """
    for version, region in live:
        if CHAMPION in version.aliases and promises.lacks(version.name, region) and _keeps_records(version, trust):
            with finding():
                raise IntegrityError(
                    expected=f"a record of models:/{version.name}@champion in the store of its region, where the "
                    f"release that promoted version {version.version} keeps one",
                    found="none: it was deleted, or the release was interrupted before it",
                    remedy="release the region again, which keeps the promotion anew; see who can write to the store",
                )


def _keeps_records(version: LiveVersion, trust: Trust) -> bool:
    try:
        return bool(open_promotion(version.promotion or "", version.name, version.version, trust)[0].beside)
    except RegiolectError:
        # That version's own finding.
        return False

"""What a release is asked for, and what it is planned against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from regiolect.contracts import Contract
from regiolect.errors import UsageError
from regiolect.errors.output import printable_repr
from regiolect.planning.retired import FindStore
from regiolect.planning.served import Champions
from regiolect.policy import PolicyBook
from regiolect.settings import Settings
from regiolect.storage import Store

Stores = Callable[[str], Store]
"""A region's store, by the region's name."""

Names = Sequence[str] | str | None
"""Names of regions or targets: several, one, or several separated by commas as on the command line; None: all."""


class ReleaseRequest(Contract):
    """What somebody asks of a release of one model."""

    address: str = Field(description="of the ModelSpec: package.module:NAME, or an entry point")
    regions: tuple[str, ...] = Field(
        default=(), description="empty: every region that has both a policy and data of the model's"
    )
    targets: tuple[str, ...] = Field(
        default=(),
        description="build for these only, what other targets have is reused where it is unchanged, else left alone; "
        "empty: every target of these regions' policies",
    )
    force: bool = Field(default=False, description="plan everything as a build")

    @classmethod
    def of(
        cls, address: str, regions: Sequence[str] | None, targets: Sequence[str] | None = None, *, force: bool = False
    ) -> ReleaseRequest:
        """As forms and command lines ask: None, as well as nothing named, means all."""
        return cls(address=address, regions=tuple(regions or ()), targets=tuple(targets or ()), force=force)

    def parameters(self) -> dict[str, Any]:
        """As the release flow takes it."""
        names = {"regions": list(self.regions) or None, "targets": list(self.targets) or None}
        return {"model": self.address, **names, "force": self.force}


@dataclass(frozen=True)
class Installation:
    """Where a plan is made.

    Attributes:
        policies: the regions' policies.
        stores: opens a region's store.
        on_pools: engines are built on other machines; each target is taken for what it was when last seen.
        elsewhere: finds the stores of regions that are not asked for, in which an engine to retire may be kept; without
            it only the stores of the regions that are asked for are looked into.
        champions: asks the registry what is served; without it nothing is planned to be promoted. It is asked only
            where an approved engine may not be served.
    """

    policies: PolicyBook
    stores: Stores
    on_pools: bool = False
    elsewhere: FindStore | None = None
    champions: Champions | None = None

    @classmethod
    def of(cls, settings: Settings, *, everywhere: bool = False, champions: Champions | None = None) -> Installation:
        """The one that the settings describe.

        Args:
            everywhere: look for engines to retire in the stores of other regions as well.

        Raises:
            PolicyError: the policies are unusable.
        """
        return cls(
            policies=PolicyBook(settings.policies),
            stores=settings.store,
            on_pools=settings.on_pools,
            elsewhere=settings.find_store if everywhere else None,
            champions=champions,
        )


def names_given(what: str, given: Names) -> list[str] | None:
    """The names that were given from Python; None: all are meant, which an empty list does not say.

    Args:
        what: the option that has them.

    Raises:
        UsageError: there are none, or something that is no text.
    """
    if given is None:
        return None
    several = given.split(",") if isinstance(given, str) else given
    listed = list(several) if isinstance(several, Iterable) else [several]
    if not all(isinstance(name, str) for name in listed):
        raise UsageError(
            expected=f"names in {what}, each a text, or None for all",
            found=printable_repr(given),
            remedy=f'name them as on the command line: {what}=["eu", "na"], or {what}="eu,na"',
        )
    names = [name.strip() for name in listed]
    if not any(names):
        raise UsageError(
            expected=f"names in {what}, or None for all",
            found=repr(given),
            remedy=f"leave {what} out for all, or do not call it when there are none",
        )
    return [name for name in names if name]

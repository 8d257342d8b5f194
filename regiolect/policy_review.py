"""A change of policies as whoever reviews it wants to see it: what differs, and what becomes of the engines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from pydantic import PositiveInt

from regiolect.contracts import Contract
from regiolect.errors import UsageError
from regiolect.policy import RegionPolicy
from regiolect.policy.difference import RegionChange, differences
from regiolect.policy.places import PolicyPlace, policies_at
from regiolect.policy_effects import EngineEffect, effects, kept_engines
from regiolect.registry import Registry
from regiolect.settings import Settings


class PolicyReview(Contract):
    """What differs between two sets of policies, and what that does to engines. `notes` say what is not told."""

    format: Literal[1] = 1
    old: str
    new: str
    compared: PositiveInt
    regions: tuple[RegionChange, ...]
    engines: tuple[EngineEffect, ...]
    notes: tuple[str, ...]


def review(old: str, new: str, settings: Settings) -> PolicyReview:
    """Compare two sets of policies. Loads no model, starts nothing and changes nothing.

    Args:
        old, new: a folder, a single file, or a git revision of the project's policies.

    Raises:
        UsageError: there is no such place, or two files are about two regions.
        PolicyError: policies have mistakes; all of one place's are named.
        BackendUnavailable: engines are there to be judged, and the gate's libraries are not.
    """
    with policies_at(old, settings.policies) as before, policies_at(new, settings.policies) as after:
        regions = _compared(before, after)
        changes = differences(before.book, after.book, regions)
        policies = {region: after.book.load(region) for region in regions if region in after.book.regions()}
    concerned = [change for change in changes if change.old_policy != change.new_policy]
    engines, notes = _consequences(concerned, policies, settings) if concerned else ((), [])
    added = [change.region for change in changes if change.change == "added"]
    return PolicyReview(
        old=before.name,
        new=after.name,
        compared=len(regions),
        regions=changes,
        engines=engines,
        notes=(*(f"{region} is new: each model that has data of it gets an engine" for region in added), *notes),
    )


def _compared(before: PolicyPlace, after: PolicyPlace) -> Collection[str]:
    """The regions to compare: that of a file, else all of both places, none of which may have a mistake."""
    single = {place.region for place in (before, after) if place.region is not None}
    if len(single) > 1:
        raise UsageError(
            expected="two files about one region, or two folders",
            found=f"{before.name} is about {before.region!r}, {after.name} about {after.region!r}",
            remedy="compare the folders that they lie in",
        )
    if single:
        return single
    for place in (before, after):
        place.book.all()
    return {*before.book.regions(), *after.book.regions()}


def _consequences(
    changes: Sequence[RegionChange], policies: Mapping[str, RegionPolicy], settings: Settings
) -> tuple[tuple[EngineEffect, ...], list[str]]:
    registry = Registry(settings.tracking_uri, settings.artifact_root)
    kept = kept_engines([change.region for change in changes], settings.store, registry.champions)
    return effects(changes, policies, kept, settings.store), kept.notes

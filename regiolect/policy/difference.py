"""What differs between two sets of policies, region by region and field by field. Pure: two books in, an answer out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from regiolect.contracts import Contract, Digest, RegionId, Target
from regiolect.policy.book import PolicyBook
from regiolect.policy.inheritance import loosened
from regiolect.policy.mistakes import Key, mentioned
from regiolect.policy.rules import RegionPolicy

Direction = Literal["tightens", "loosens", "changes"]
# Fields that a limit is measured in or on: where they change, a smaller number is not a stricter one.
_ON = ("performance", "batch", "shapes")
_MEASURED_IN = {"accuracy": ("accuracy.metric", "accuracy.unit"), "latency": _ON, "speed": _ON}


class FieldChange(Contract):
    """One field of a region's resolved policy. What is not stated has its default as value, or None."""

    key: str
    old: Any = None
    new: Any = None
    direction: Direction
    inherited_from: RegionId | None = None


class RegionChange(Contract):
    """What becomes of one region's policy. `fields` is empty for a region that is added or removed.

    The digests are of what is demanded, under which engines are kept. Where they are equal, no engine is concerned.
    """

    region: RegionId
    title: str
    change: Literal["added", "removed", "changed"]
    old_policy: Digest | None = None
    new_policy: Digest | None = None
    fields: tuple[FieldChange, ...] = ()


def differences(old: PolicyBook, new: PolicyBook, regions: Collection[str]) -> tuple[RegionChange, ...]:
    """The regions that differ, in alphabetical order.

    A field tightens or loosens by the same rules by which a child may tighten its parent and not loosen it. One that a
    region has from another's file names that region.

    Args:
        regions: which to compare.

    Raises:
        PolicyError: a policy of one of these regions has mistakes; all of them are named.
    """
    changes = []
    for region in sorted(regions):
        before = old.load(region) if region in old.regions() else None
        after = new.load(region) if region in new.regions() else None
        either = after or before
        if either is None:
            continue
        fields = tuple(_fields(before, after, old, new)) if before is not None and after is not None else ()
        if before is None or after is None or fields:
            changes.append(
                RegionChange(
                    region=region,
                    title=either.title,
                    change="added" if before is None else "removed" if after is None else "changed",
                    old_policy=before.demands_digest() if before is not None else None,
                    new_policy=after.demands_digest() if after is not None else None,
                    fields=fields,
                )
            )
    return tuple(changes)


def _fields(before: RegionPolicy, after: RegionPolicy, old: PolicyBook, new: PolicyBook) -> Iterator[FieldChange]:
    looser = {key for reason in loosened(before, after) for key in mentioned(reason)}
    tighter = {key for reason in loosened(after, before) for key in mentioned(reason)}
    changes = dict(_leaves((), before.model_dump(mode="json"), after.model_dump(mode="json")))
    for key, (was, now) in changes.items():
        yield FieldChange(
            key=".".join(key),
            old=was,
            new=now,
            direction=_direction(key, looser, tighter, changes),
            inherited_from=_inherited(key, before.region, old, new),
        )


def _leaves(key: Key, old: Any, new: Any) -> Iterator[tuple[Key, tuple[Any, Any]]]:
    """Every place at which two values differ; targets are told apart by their names."""
    if old == new:
        return
    if key == ("targets",):
        was, now = (
            {target["name"]: Target.model_validate(target).described() for target in each} for each in (old, new)
        )
        # The order is part of what a policy says, if only that differs.
        yield from _leaves_of(key, was, now) if was != now else [(key, (list(was), list(now)))]
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _leaves_of(key, old, new)
    else:
        yield key, (old, new)


def _leaves_of(key: Key, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[Key, tuple[Any, Any]]]:
    for name in dict.fromkeys([*old, *new]):
        yield from _leaves((*key, name), old.get(name), new.get(name))


def _direction(key: Key, looser: set[Key], tighter: set[Key], changed: Collection[Key]) -> Direction:
    measures = [tuple(field.split(".")) for field in _MEASURED_IN.get(key[0], ())]
    if key[0] in _MEASURED_IN["latency"] or any(_concerns(other, field) for other in changed for field in measures):
        return "changes"
    loosens, tightens = (any(_concerns(named, key) for named in rules) for rules in (looser, tighter))
    return "changes" if loosens == tightens else "loosens" if loosens else "tightens"


def _concerns(named: Key, key: Key) -> bool:
    """Whether what a rule names is a field or lies within it, as `latency.p99_ms` in a `latency` that is new."""
    return named[: len(key)] == key


def _inherited(key: Key, region: str, old: PolicyBook, new: PolicyBook) -> str | None:
    """The other region that a field's value comes from; of one that falls back to its default, came from."""
    place = key[:1] if key[0] == "targets" else key
    source = new.origin(region, place) or old.origin(region, place)
    return None if source == region else source


_ABSENT = {
    "accuracy.least": "no lowest score",
    "accuracy.regression": "accuracy.limit",
    "latency": "no limit",
    "approval": "nobody is asked",
    "tuning": "engines run as they come",
    "extends": "nothing",
    "calibration.max_age_days": "no limit",
    "repair.minutes": "no limit",
    "repair.fallback": "every wider precision that is not forbidden",
}


def worded(key: str, value: Any) -> str:
    """A field's value as people read it."""
    if value is None:
        return "not named" if key.startswith("targets.") else _ABSENT.get(key, "none")
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {worded(f'{key}.{name}', each)}" for name, each in value.items() if each)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "nothing"
    return f"{value:g}" if isinstance(value, float) else str(value)

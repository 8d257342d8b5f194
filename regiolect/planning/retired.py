"""Engines that are kept for a region or a target that the policies no longer name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from regiolect.contracts import Arithmetic, RegionOutcome, slot_of
from regiolect.errors import RegiolectError, StorageError
from regiolect.model import ModelSpec
from regiolect.planning.kept import LATEST, OUTCOMES
from regiolect.planning.plan import PlannedEngine
from regiolect.planning.request import engine_key, engine_of_key
from regiolect.policy import PolicyBook
from regiolect.scoped_cache import once
from regiolect.storage import Store
from regiolect.storage.layout import record_key

FindStore = Callable[[str], Store | None]
"""The store of a region that may never have had one."""

Place = tuple[str, str, Arithmetic | None]
"""Region, target, and the class of arithmetic if the engine was built for one."""

Places = Mapping[Place, Store]
"""Where something is kept, and the store in which it is."""


def kept_places(model: str, store: Store) -> Places:
    """Where an engine of the model was made, or tried to be; looks at the names of records alone.

    Raises:
        StorageError: the store cannot be listed.
    """
    return dict.fromkeys(once(("kept", store), lambda: _listed(store)).get(model, ()), store)


def _listed(store: Store) -> Mapping[str, Sequence[Place]]:
    places: dict[str, list[Place]] = {}
    for model, region, target, arithmetic in filter(None, map(engine_of_key, store.record_keys(LATEST))):
        places.setdefault(model, []).append((region, target, arithmetic))
    return places


def kept_elsewhere(
    spec: ModelSpec, policies: PolicyBook, elsewhere: FindStore
) -> tuple[Places, tuple[PlannedEngine, ...]]:
    """What is kept in the stores of regions that nobody asks for, and a line for each that is closed to us.

    Of a region that was given up mostly its data are still in the ModelSpec, or else its policy is still there.
    """
    places: dict[Place, Store] = {}
    closed = []
    for region in sorted({*spec.data} ^ {*policies.regions()}):
        try:
            store = once(("elsewhere", region), partial(elsewhere, region))
            places.update(kept_places(spec.name, store) if store is not None else {})
        except RegiolectError as error:
            closed.append(_unseen(region, None, error))
    return places, tuple(closed)


def retired(
    spec: ModelSpec, policies: PolicyBook, places: Places, regions: Sequence[str] | None
) -> Iterator[PlannedEngine]:
    """What is to be retired, by region and target.

    Args:
        regions: look at these only; default: at every region of which something is kept.
    """
    with_policy = policies.regions()
    for place in sorted(places, key=lambda place: tuple(map(str, place))):
        region = place[0]
        if regions is not None and region not in regions:
            continue
        why = _why(spec, policies, place) if region in with_policy else f"no policy names {region} any more"
        if why is None:
            continue
        try:
            planned = _retired(spec.name, place, why, places[place])
        except StorageError as error:
            planned = _unseen(region, place[1], error)
        if planned is not None:
            yield planned


def _why(spec: ModelSpec, policies: PolicyBook, place: Place) -> str | None:
    """Why nobody asks for an engine any more; None if somebody does, or if nobody can tell."""
    region, target, arithmetic = place
    if region not in spec.data:
        return f"the model has no data of {region} any more"
    try:
        policy = policies.load(region)
    except RegiolectError:
        # The plan refuses the region: an unreadable policy retires nothing.
        return None
    named = {each.name: each for each in policy.targets}
    if target not in named:
        return f"the policy of {region} no longer names {target}"
    taken = named[target].arithmetic
    if arithmetic is not None and taken and arithmetic not in taken:
        return f"the policy of {region} no longer takes class {arithmetic} for {target}"
    return None


def _unseen(region: str, target: str | None, error: RegiolectError) -> PlannedEngine:
    # Nobody asked for this region: that its store is closed to this machine stops nothing, and is said.
    return PlannedEngine(
        region=region,
        title=region,
        target=target,
        precision=None,
        action="skip",
        reason=f"not looked into for engines to retire: {type(error).__name__}: {error.found}",
    )


def _retired(model: str, place: Place, why: str, store: Store) -> PlannedEngine | None:
    region, target, arithmetic = place
    key = engine_key(model, region, slot_of(target, arithmetic))
    latest = store.get_record(LATEST, key, RegionOutcome)
    # A failure as the last word does not say that there was never an engine before it.
    engine = latest if latest is None or latest.engine else _last_engine(model, place, store)
    if latest is not None and engine is None:
        return None
    return PlannedEngine(
        region=region,
        title=engine.title if engine else region,
        target=target,
        arithmetic=arithmetic,
        precision=engine.precision if engine else None,
        action="retire",
        reason=f"{why} (kept: {record_key(LATEST, key)})",
        kept=engine.build_key if engine else None,
        decision=engine.decision if engine else None,
    )


def _last_engine(model: str, place: Place, store: Store) -> RegionOutcome | None:
    return next(
        (
            outcome
            for outcome in store.records(OUTCOMES, RegionOutcome)
            if (outcome.model, outcome.region, outcome.target.name, outcome.arithmetic) == (model, *place)
            and outcome.engine
        ),
        None,
    )

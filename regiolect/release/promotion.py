"""By which rule a version becomes champion, or is held back as challenger."""

from __future__ import annotations

from collections.abc import Sequence

from regiolect.contracts import (
    Arithmetic,
    ChampionComparison,
    Decision,
    Failure,
    RegisteredEngine,
    failure_of,
    place_of,
)
from regiolect.errors import ChampionNotComparable, PromotionHeld, TargetNotServed, WorseThanChampion

Slot = tuple[str, Arithmetic | None]
"""A target, and the class of arithmetic where it has an engine for each."""


def held_back(
    model: str,
    region: str,
    champion: RegisteredEngine,
    lost: Sequence[Slot],
    compared: Sequence[ChampionComparison],
) -> Failure | None:
    """Why a version does not take the champion's place; None if it does."""
    gone = [place_of(*slot) for slot in dict.fromkeys(lost) if champion.serves(*slot)]
    worse = [each for each in compared if each.verdict is not Decision.APPROVED]
    if not gone and not worse:
        return None
    kind: type[PromotionHeld] = TargetNotServed
    if not gone:
        kind = ChampionNotComparable if all(each.loss is None for each in worse) else WorseThanChampion
    reasons = [f"{place}: no engine was approved, {champion.uri} has one" for place in gone]
    reasons += [f"{each.place}: {each.reason}" for each in worse]
    return failure_of(
        kind(
            expected=f"a version of {model}-{region} that takes nothing from consumers of {champion.uri}",
            found="; ".join(reasons),
            remedy=f"{champion.uri} stays, this one is kept as challenger; if it is right to serve it, a person says "
            f'so: regiolect promote {model} {region} --because "..."',
        )
    )

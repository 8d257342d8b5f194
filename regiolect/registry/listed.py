"""Versions as a registry tells them to people: from their tags, and from the promotions that are signed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from regiolect.contracts import RegionId, RegisteredTarget, RegisteredVersion
from regiolect.errors import UntrustedEngine
from regiolect.registry.aliases import CHAMPION
from regiolect.registry.live import registered_models, versions_by_name
from regiolect.registry.promotions import tag_of
from regiolect.registry.tags import several
from regiolect.signing.promotion import open_promotion
from regiolect.signing.trust import Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

_REGION = TypeAdapter[str](RegionId)
_OF_TARGETS = ("targets", "arithmetic", "backend", "precision", "executed", "build_key", "decision")
_FIGURES = ("loss", "loss_upper", "threshold", "unit")


def listed_versions(
    client: MlflowClient, names: Collection[str], regions: Collection[str], trust: Trust
) -> Iterator[RegisteredVersion]:
    """Every version of registered models, by name and number.

    Args:
        names, regions: as of `live_versions`.
        trust: whose promotions count.

    Raises:
        UsageError: there is no registered model of one of these names.
    """
    models, numbers = registered_models(client, names, regions), versions_by_name(client)
    for name, model in sorted(models.items()):
        aliases = defaultdict(list)
        for alias, number in model.aliases.items():
            aliases[int(number)].append(alias)
        for version in sorted(numbers[name], key=lambda each: int(each.version)):
            yield _listed(model, version, tuple(sorted(aliases[int(version.version)])), trust)


def _listed(model: RegisteredModel, version: ModelVersion, aliases: tuple[str, ...], trust: Trust) -> RegisteredVersion:
    tags, number = version.tags, int(version.version)
    noted = {name: tags.get(name) for name in ("promoted_by", "because", "held")}
    return RegisteredVersion(
        name=model.name,
        version=number,
        uri=f"models:/{model.name}/{number}",
        model=tags.get("model"),
        region=_region(tags.get("region")),
        registered=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        aliases=aliases,
        policy=tags.get("policy"),
        bundle=tags.get("bundle"),
        engines=tuple(_engines(tags)),
        **{**noted, **(_promoted(model, number, trust) if CHAMPION in aliases else {"champion": False})},
    )


def _promoted(model: RegisteredModel, version: int, trust: Trust) -> dict[str, Any]:
    """What is signed of the version that `champion` points at, in place of what its tags say."""
    try:
        promotion, opened = open_promotion(model.tags.get(tag_of(version), ""), model.name, version, trust)
    except UntrustedEngine:
        return {"champion": False}
    signed = {"promoted": opened.signed, "signed_by": opened.key.who()}
    return {"champion": True, "promoted_by": promotion.by, "because": promotion.because, **signed}


def _engines(tags: Mapping[str, str]) -> Iterator[RegisteredTarget]:
    columns = [several(tags, name) for name in (*_OF_TARGETS, *_FIGURES)]
    for values in zip_longest(*columns, fillvalue=""):
        told = dict(zip((*_OF_TARGETS, *_FIGURES), values, strict=True))
        yield RegisteredTarget(
            target=told["targets"],
            arithmetic=None if told["arithmetic"] in ("", "none") else told["arithmetic"],
            limit=_number(told["threshold"]),
            **{name: told[name] for name in ("backend", "precision", "executed", "build_key", "decision", "unit")},
            **{name: _number(told[name]) for name in ("loss", "loss_upper")},
        )


def _region(tag: str | None) -> str | None:
    """A region's name: a store is looked for by it."""
    try:
        return None if tag is None else _REGION.validate_python(tag)
    except ValidationError:
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

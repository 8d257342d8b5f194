"""Signed promotions, kept as tags of the registered model: `promotion.<version>`.

Whoever can write to the registry can point `champion` anywhere, but cannot sign. A promotion is written before the
alias moves and those of other versions are removed after it did, so whatever call fails, the version that the alias
points at has its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from regiolect.bundle.manifest import BundleManifest
from regiolect.errors import AliasMoved, UntrustedEngine
from regiolect.registry.tags import arithmetics_of, tunings_of
from regiolect.signing.envelope import Signing
from regiolect.signing.promotion import RELEASE, Promotion, open_promotion
from regiolect.signing.trust import Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

_TAG = re.compile(r"promotion\.([1-9][0-9]{0,9})")


def tag_of(version: int) -> str:
    """The tag that holds a version's promotion."""
    return f"promotion.{version}"


def promotions_of(model: RegisteredModel, trust: Trust) -> Mapping[int, Promotion]:
    """The promotions of a registered model that count, by version; what else is in its tags is passed over."""
    promotions = {}
    for version in _tagged(model):
        try:
            promotions[version] = open_promotion(model.tags[tag_of(version)], model.name, version, trust)[0]
        except UntrustedEngine:
            continue
    return promotions


def has_promotions(model: RegisteredModel) -> bool:
    """Whether anything is kept as a promotion of one of its versions, by whomever."""
    return bool(_tagged(model))


def require_promotion(envelope: str | None, name: str, version: int, bundle: str, trust: Trust) -> Promotion:
    """The promotion by which a release, or a person, made a version, with the bundle of that digest, champion.

    Args:
        envelope: what is kept as the version's promotion, or None.

    Raises:
        AliasMoved: no release did.
        UntrustedEngine: somebody did whose signature does not count here.
    """
    what = f"models:/{name}/{version}, which `champion` points at, to have been made champion by a release"
    if envelope is None:
        raise AliasMoved(expected=what, found="an alias that was moved by hand", remedy=RELEASE)
    promotion, _ = open_promotion(envelope, name, version, trust)
    if promotion.bundle != bundle:
        raise AliasMoved(expected=f"{what} with the bundle {promotion.bundle}", found=bundle, remedy=RELEASE)
    return promotion


def promote(client: MlflowClient, promotion: Promotion, signing: Signing) -> None:
    """Sign a promotion and keep it with the registered model."""
    client.set_registered_model_tag(promotion.name, tag_of(promotion.version), promotion.signed(signing))


def forget_others(client: MlflowClient, model: RegisteredModel, version: int) -> None:
    """Remove every promotion but a version's own."""
    from mlflow.exceptions import MlflowException

    for other in _tagged(model):
        if other != version:
            try:
                client.delete_registered_model_tag(model.name, tag_of(other))
            except MlflowException as error:
                # Another release was faster.
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise


def promotion_for(manifest: BundleManifest, digest: str, version: int, beside: Mapping[str, str]) -> Promotion:
    """What is signed of a version that holds a bundle, and beside it the files of these digests."""
    requests = [approved.engine.request for approved in manifest.engines]
    return Promotion(
        name=manifest.name,
        version=version,
        bundle=digest,
        policy=manifest.policy,
        targets=tuple(request.target.name for request in requests),
        build_keys=tuple(request.build_key for request in requests),
        tunings=tunings_of(manifest),
        beside=beside,
        arithmetics=arithmetics_of(manifest),
    )


def _tagged(model: RegisteredModel) -> list[int]:
    return sorted(int(match[1]) for match in map(_TAG.fullmatch, model.tags) if match)

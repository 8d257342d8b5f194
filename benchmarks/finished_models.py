"""A night's starting point: many models of which every engine is built, approved, registered and champion.

One model is released for real. Every other model's plan is made for real, too; under each build key that it asks for
lies the first model's outcome in that region, with the other model's name and key and the same files. So whatever a
nightly reads and compares is there, and only the thousands of builds that it would not look at are saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlflow import MlflowClient

from regiolect.contracts import Decision, RegionOutcome
from regiolect.planning import (
    Installation,
    RegionRequest,
    ReleaseRequest,
    finished,
    keep,
    load_model_spec,
    plan_release,
)
from regiolect.policy import PolicyBook
from regiolect.registry.promotions import promote, promotions_of
from regiolect.settings import Settings
from regiolect.signing.envelope import Signing

CHAMPION = "champion"


def keep_as_built(addresses: Sequence[str], settings: Settings) -> None:
    """Keep the outcomes of the first model, which was released, for all others as well."""
    built = {request.region: _outcome(request, settings) for request in requests_of(addresses[0], settings)}
    for address in addresses[1:]:
        for request in requests_of(address, settings):
            keep(_for_request(built[request.region], request), request, settings.store(request.region))


def register_as_built(addresses: Sequence[str], settings: Settings) -> None:
    """Register one version for every model and region, as the first model's is, and make it champion, signed."""
    client = MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri)
    first, keyring = load_model_spec(addresses[0]), settings.keyring()
    trust, signing = keyring.load_trust(), Signing(keyring.signer())
    promoted = {
        region: next(iter(promotions_of(client.get_registered_model(f"{first.name}-{region}"), trust).values()))
        for region in {request.region for request in requests_of(addresses[0], settings)}
    }
    for address in addresses[1:]:
        for request in requests_of(address, settings):
            registered = client.get_model_version_by_alias(f"{first.name}-{request.region}", CHAMPION)
            name = f"{request.name}-{request.region}"
            own = {"model": request.name, "region": request.region}
            tags: Mapping[str, str] = registered.tags | own | {"build_key": request.build_key}
            client.create_registered_model(name, tags=own)
            version = client.create_model_version(name, str(registered.source), registered.run_id, tags=dict(tags))
            own_promotion = {"name": name, "version": int(version.version), "build_keys": (request.build_key,)}
            promote(client, promoted[request.region].model_copy(update=own_promotion), signing)
            client.set_registered_model_alias(name, CHAMPION, version.version)


def requests_of(address: str, settings: Settings) -> tuple[RegionRequest, ...]:
    """All engines of a model, built or not."""
    here = Installation(PolicyBook(settings.policies), settings.store)
    return plan_release(ReleaseRequest(address=address), load_model_spec(address), here).requests()


def _outcome(request: RegionRequest, settings: Settings) -> RegionOutcome:
    outcome = finished(request, settings.store(request.region))
    if outcome is None or outcome.decision is not Decision.APPROVED:
        raise SystemExit(f"{request.name} was released, but has no approved engine in {request.region}")
    return outcome


def _for_request(outcome: RegionOutcome, request: RegionRequest) -> RegionOutcome:
    own = {"build_key": request.build_key}
    engine, evaluation = outcome.engine, outcome.evaluation
    asked = engine and engine.request.model_copy(update={**own, "model": request.name})
    return outcome.model_copy(
        update={
            **own,
            "model": request.name,
            "key_parts": request.key_parts,
            "engine": engine and engine.model_copy(update={"request": asked}),
            "evaluation": evaluation and evaluation.model_copy(update=own),
        }
    )

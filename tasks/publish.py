"""A region's approved engines to its consumers."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.contracts import ApprovedEngine, Blob, ExportedModel, Published, RegionOutcome, RegisteredEngine
from regiolect.errors import RegiolectError
from regiolect.planning import RegionRequest
from regiolect.policy import RegionPolicy
from regiolect.registry import Registry
from regiolect.release import publish as publishing
from regiolect.release import stages
from regiolect.settings import load_settings, store_of
from tasks.in_child import in_child, one_child
from tasks.registration_lock import one_release_at_a_time


# The name of a run tells who is at a registered model: tasks.registration_lock asks for it.
@task(
    name="register",
    task_run_name="register-{model.name}-{outcomes[0].region}",
    tags=["registry"],
    cache_policy=NO_CACHE,
)
def publish(
    address: str,
    model: ExportedModel,
    outcomes: tuple[RegionOutcome, ...],
    policy: RegionPolicy,
    left_out: tuple[str, ...] = (),
) -> Published:
    store = store_of(policy)

    def again(champion: RegisteredEngine, served: ApprovedEngine, new: ApprovedEngine) -> Blob:
        with one_child(f"the champion of {policy.region}"):
            return in_child(stages.answer_again, address, policy, champion, served, new)

    return publishing.publish(model, outcomes, policy, store, _registry(), again, left_out)


def champion(model: str, region: str) -> RegisteredEngine | None:
    """The version that a region's consumers load now, or None."""
    return _registry().champion(model, region)


def beside_champion(request: RegionRequest) -> RegionRequest:
    """A request that tells its builder what is served now, if the registry tells it."""
    try:
        return request.model_copy(update={"champion": champion(request.name, request.region)})
    except RegiolectError:
        # The same question is asked again before anything is registered, and its error told then.
        return request


def _registry() -> Registry:
    settings = load_settings()
    return Registry.of(settings, exclusively=one_release_at_a_time(settings))

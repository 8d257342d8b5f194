"""What a registered model's aliases point at, and how they move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from regiolect.contracts import RegisteredEngine
from regiolect.registry_tags import registered_engine, require_owner

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
# Two callers that write an alias at the same moment: a database refuses one of them, who looks again.
_TRIES = 5
# As many as MLflow hands out at once.
_PAGE = 1000


def model_at(client: MlflowClient, name: str) -> RegisteredModel | None:
    """The registered model of that name, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def owned(client: MlflowClient, model: str, region: str) -> RegisteredModel | None:
    """The registered model of a model in a region, or None.

    Raises:
        RegistryError: the name is another model's or region's.
    """
    found = model_at(client, f"{model}-{region}")
    if found is not None:
        require_owner(found.name, model, region, found.tags)
    return found


def version_at(client: MlflowClient, model: RegisteredModel | None, alias: str) -> RegisteredEngine | None:
    """The version that an alias points at, or None."""
    if model is None or alias not in model.aliases:
        return None
    version = model.aliases[alias]
    tags = client.get_model_version(model.name, str(version)).tags
    return registered_engine(model.name, int(version), version == model.aliases.get(CHAMPION), tags)


def champions(client: MlflowClient) -> Iterator[tuple[str, RegisteredEngine]]:
    """Every champion there is, by registered name; few questions even to a registry with thousands of models."""
    token = None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        for model in page:
            version = _target(model, CHAMPION)
            if version is None:
                continue
            # A listing carries a model's newest version, which mostly is the champion; its tags need not be asked for.
            newest = next((each for each in model.latest_versions if int(each.version) == version), None)
            tags = (newest or client.get_model_version(model.name, str(version))).tags
            yield model.name, registered_engine(model.name, version, True, tags)
        token = page.token
        if not token:
            return


def move(
    client: MlflowClient, name: str, version: int, replaces: Callable[[RegisteredEngine | None], bool] | bool
) -> bool:
    """Point the aliases at a version that exists. Each call on the way leaves what can be served and taken up from.

    Args:
        replaces: whether the version is to replace the champion, or a question about that, asked with the champion in
            view, None for none. A version that is champion already stays it.

    Returns:
        Whether the version is champion.
    """
    from mlflow.exceptions import MlflowException

    tries = _TRIES
    while True:
        tries -= 1
        try:
            return _move(client, name, version, replaces)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST" or not tries:
                raise


def _move(
    client: MlflowClient, name: str, version: int, replaces: Callable[[RegisteredEngine | None], bool] | bool
) -> bool:
    model = client.get_registered_model(name)
    current = _target(model, CHAMPION)
    if current != version:
        if replaces if isinstance(replaces, bool) else replaces(version_at(client, model, CHAMPION)):
            if current is not None and _target(model, PREVIOUS) != current:
                client.set_registered_model_alias(name, PREVIOUS, str(current))
            client.set_registered_model_alias(name, CHAMPION, str(version))
        elif _target(model, CHALLENGER) != version:
            client.set_registered_model_alias(name, CHALLENGER, str(version))
    # Whoever writes an alias looks afterwards. So of two who make one version champion and challenger at the same time
    # the later one sees both.
    model = client.get_registered_model(name)
    if _target(model, CHAMPION) != version:
        return False
    for other in (CHALLENGER, PREVIOUS):
        if _target(model, other) == version:
            client.delete_registered_model_alias(name, other)
    return True


def _target(model: RegisteredModel, alias: str) -> int | None:
    return int(model.aliases[alias]) if alias in model.aliases else None

"""What a registered model's aliases point at, and how they move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from regiolect.contracts import RegisteredEngine
from regiolect.errors import UsageError
from regiolect.progress import note
from regiolect.registry.promotions import forget_others, promote, promotions_of, tag_of
from regiolect.registry.tags import registered_engine, require_owner
from regiolect.signing.envelope import Signing
from regiolect.signing.promotion import Promotion, open_promotion
from regiolect.signing.trust import KeyState, Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

T = TypeVar("T")

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
    registered = model_at(client, f"{model}-{region}")
    if registered is not None:
        require_owner(registered.name, model, region, registered.tags)
    return registered


def version_at(client: MlflowClient, model: RegisteredModel | None, alias: str) -> RegisteredEngine | None:
    """The version that an alias points at, or None."""
    if model is None or alias not in model.aliases:
        return None
    version = model.aliases[alias]
    tags = client.get_model_version(model.name, str(version)).tags
    return registered_engine(model.name, int(version), version == model.aliases.get(CHAMPION), tags)


def champion_of(model: RegisteredModel | None, trust: Trust) -> RegisteredEngine | None:
    """The version that `champion` points at because a release pointed it there, or None.

    What is said of it is what was signed, not what its tags say.
    """
    if model is None:
        return None
    version = _target(model, CHAMPION) or 0
    promotion = promotions_of(model, trust).get(version)
    if promotion is None:
        return None
    key = open_promotion(model.tags[tag_of(version)], model.name, version, trust)[1].key
    return promotion.engine().model_copy(update={"retired_key": None if key.state is KeyState.ACTIVE else key.who()})


def challenger_of(model: RegisteredModel | None, client: MlflowClient, name: str) -> RegisteredEngine:
    """The version that waits beside the champion.

    Raises:
        UsageError: there is none.
    """
    challenger = version_at(client, model, CHALLENGER)
    if challenger is None:
        raise UsageError(
            expected=f"a challenger of {name}: a version that was held back",
            found="none" if model is not None else f"no registered model {name}",
            remedy="regiolect run MODEL tells what it held back, and why"
            if model is not None
            else "check the names of model and region; regiolect audit lists what is registered",
        )
    return challenger


def champions(client: MlflowClient, trust: Trust) -> Iterator[tuple[str, RegisteredEngine]]:
    """Every champion there is, by registered name; one question to the registry for a thousand models."""
    token = None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        for model in page:
            champion = champion_of(model, trust)
            if champion is not None:
                yield model.name, champion
        token = page.token
        if not token:
            return


def move(
    client: MlflowClient,
    promotion: Promotion,
    replaces: Callable[[RegisteredEngine | None], bool] | bool,
    trust: Trust,
    signing: Signing,
) -> bool:
    """Point the aliases at a version that exists. Each call on the way leaves what can be served and taken up from.

    A champion that no release made counts as none: its alias is put back to the version that the last release made
    champion, unless the new one takes its place.

    Args:
        promotion: of the version; signed if it becomes champion.
        replaces: whether the version is to replace the champion, or a question about that, asked with the champion in
            view, None for none. A version that is champion already stays it, and no other waits beside it any more.
        trust: whose promotions count.

    Returns:
        Whether the version is champion.
    """
    return _until_settled(lambda: _move(client, promotion, replaces, trust, signing))


def restore(client: MlflowClient, name: str, trust: Trust) -> None:
    """Put an alias `champion` that was moved by hand back to the version that the last release made champion."""
    _until_settled(lambda: _put_back(client, client.get_registered_model(name), trust))


def _until_settled(step: Callable[[], T]) -> T:
    from mlflow.exceptions import MlflowException

    tries = _TRIES
    while True:
        tries -= 1
        try:
            return step()
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST" or not tries:
                raise


def _move(
    client: MlflowClient,
    promotion: Promotion,
    replaces: Callable[[RegisteredEngine | None], bool] | bool,
    trust: Trust,
    signing: Signing,
) -> bool:
    name, version = promotion.name, promotion.version
    before = model = client.get_registered_model(name)
    promoted = promotions_of(model, trust)
    current = _rightful(model, promoted)
    promotion = promotion.model_copy(update={"replaced": current})
    if current != version:
        present = promoted[current].engine() if current is not None else None
        if replaces if isinstance(replaces, bool) else replaces(present):
            if _target(model, CHAMPION) not in (None, current):
                note(f"{name}: `champion` was moved by hand to version {_target(model, CHAMPION)}: made {version}")
            promote(client, promotion, signing)
            if current is not None and _target(model, PREVIOUS) != current:
                client.set_registered_model_alias(name, PREVIOUS, str(current))
            if _target(model, CHAMPION) != version:
                client.set_registered_model_alias(name, CHAMPION, str(version))
        else:
            _put_back(client, model, trust)
            if _target(model, CHALLENGER) != version:
                client.set_registered_model_alias(name, CHALLENGER, str(version))
    elif _target(model, CHAMPION) != version:
        _put_back(client, model, trust)
    # Whoever writes an alias looks afterwards. So of two who make one version champion and challenger at the same time
    # the later one sees both.
    model = client.get_registered_model(name)
    if _target(model, CHAMPION) != version:
        return False
    forget_others(client, before, version)
    for other in (CHALLENGER, PREVIOUS):
        if _target(model, other) == version:
            client.delete_registered_model_alias(name, other)
        elif other == CHALLENGER and other in model.aliases and current == version:
            # The release came out as what is served: what waited is of a model, data or policy that was given up.
            note(f"{name}: version {_target(model, other)} no longer waits as challenger: {version} was released again")
            client.delete_registered_model_alias(name, other)
    return True


def _put_back(client: MlflowClient, model: RegisteredModel, trust: Trust) -> None:
    rightful, pointed_at = _rightful(model, promotions_of(model, trust)), _target(model, CHAMPION)
    if rightful is not None and pointed_at != rightful:
        if pointed_at is not None:
            note(f"{model.name}: `champion` was moved by hand to version {pointed_at}: put back to {rightful}")
        client.set_registered_model_alias(model.name, CHAMPION, str(rightful))


def _rightful(model: RegisteredModel, promoted: Mapping[int, Promotion]) -> int | None:
    """The version that a release made champion, wherever the alias points now."""
    there = _target(model, CHAMPION)
    # Of several, which an interrupted release leaves, the alias tells which; if it points elsewhere, the older one was
    # champion for sure.
    return there if there in promoted else min(promoted, default=None)


def _target(model: RegisteredModel, alias: str) -> int | None:
    return int(model.aliases[alias]) if alias in model.aliases else None

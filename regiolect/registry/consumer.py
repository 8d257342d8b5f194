"""The question of a process that loads a model: did a release make this version champion?"""

from __future__ import annotations

import warnings

from regiolect.network import one_line, require_answer
from regiolect.registry.aliases import CHAMPION, model_at
from regiolect.registry.connection import Connection, mlflow_client
from regiolect.registry.promotions import require_promotion, tag_of
from regiolect.signing.trust import Trust

_PROBE_SECONDS = 5.0


def require_promoted(name: str, version: int, *, bundle: str, trust: Trust) -> None:
    """Raises unless `champion` points at another version, or at this one because a release pointed it there.

    Where no registry answers, or one that does not know the model, there is no alias to believe: that is warned of and
    passes, for a model that was downloaded earlier may be served without its registry. A registry that answers and does
    not tell is no such place.

    Args:
        name: the registered model.
        version: the version that was downloaded.
        bundle: digest of the manifest that came with it.

    Raises:
        AliasMoved: no release made this version, with this bundle, champion.
        UntrustedEngine: somebody did whose signature does not count here.
        RegistryError: the registry refused to tell, or is damaged.
    """
    import mlflow

    uri = str(mlflow.get_registry_uri())
    at = Connection(uri, None, mlflow_client)
    if at.is_absent():
        _warn(name, version, f"no registry at {at.shown}")
        return
    try:
        if uri.startswith(("http://", "https://")):
            require_answer(f"{uri.rstrip('/')}/health", _PROBE_SECONDS)
    except OSError as error:
        _warn(name, version, f"nothing answers at {at.shown} ({one_line(str(error))})")
        return
    with at.named_errors(f"to read {name} at {at.shown}"):
        model = model_at(mlflow_client(uri), name)
    if model is None:
        _warn(name, version, f"the registry at {at.shown} knows no {name}")
        return
    if str(model.aliases.get(CHAMPION)) != str(version):
        return
    require_promotion(model.tags.get(tag_of(version)), name, version, bundle, trust)


def _warn(name: str, version: int, found: str) -> None:
    warnings.warn(
        f"whether models:/{name}/{version} is the champion that a release made could not be asked: {found}",
        stacklevel=2,
    )

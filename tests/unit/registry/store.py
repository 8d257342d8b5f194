"""What tests of the registry share: how versions are registered in its store, and MLflow's own view of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from regiolect.contracts import RegisteredEngine
from regiolect.registry import Registry

if TYPE_CHECKING:
    from mlflow import MlflowClient

Register = Callable[..., RegisteredEngine]


def client_of(registry: Registry) -> MlflowClient:
    # Not before Regiolect has told it to send nothing.
    from mlflow import MlflowClient

    return MlflowClient(registry.tracking_uri, registry.tracking_uri)

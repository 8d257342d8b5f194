"""A region's approved engines, bundled and handed to the registry."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from regiolect.bundle import write_bundle
from regiolect.contracts import ExportedModel, RegionOutcome, RegisteredEngine
from regiolect.outcome import approved_engine
from regiolect.registry import Registry
from regiolect.storage import Store


def publish(
    model: ExportedModel, outcomes: Sequence[RegionOutcome], store: Store, registry: Registry
) -> RegisteredEngine | None:
    """Register one version that holds every approved engine of a region, and make it the champion.

    Args:
        outcomes: one region's, one per target.

    Returns:
        The version; None when no engine was approved, and then the registry is left as it is.

    Raises:
        RegistryError, StorageError, IntegrityError.
    """
    engines = [engine for engine in map(approved_engine, outcomes) if engine is not None]
    if not engines:
        return None
    first = outcomes[0]
    with tempfile.TemporaryDirectory(prefix="regiolect-bundle-") as folder:
        bundle = Path(folder) / "bundle"
        raw_dtypes = {tensor.name: model.preprocessing.raw_dtype for tensor in model.inputs}
        manifest = write_bundle(bundle, model, first.region, first.title, first.policy, engines, store, raw_dtypes)
        return registry.register(bundle, manifest, champion=True)

"""Export a model once per version of its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from regiolect.contracts import ExportedModel, Split
from regiolect.data import Samples
from regiolect.errors import DataError, EmptyDataset
from regiolect.export import export_model
from regiolect.model import ModelSpec
from regiolect.storage import Store
from regiolect.storage.stage_cache import cached


def cached_export(spec: ModelSpec, store: Store, make: Callable[[], ExportedModel]) -> ExportedModel:
    """The exported model, from an earlier run if neither the model nor the exporters changed.

    Args:
        make: exports it: `export_for`, here or in another process.
    """
    return cached(store, "exports", {"model": spec.source_digest()}, ExportedModel, make)


def export_for(spec: ModelSpec, store: Store, regions: Sequence[str]) -> ExportedModel:
    """The model exported now.

    Args:
        regions: where the samples of the parity check may come from: the first whose calibration set can be read.

    Raises:
        EmptyDataset: no region has readable samples.
        ModelError: as `export_model`.
    """
    return export_model(spec, store, _parity_samples(spec, regions))


def _parity_samples(spec: ModelSpec, regions: Sequence[str]) -> Samples:
    problems = []
    for region in regions:
        try:
            return spec.region_data(region).load(Split.CALIBRATION)
        # That region is refused when its own turn comes; the model's export does not depend on it.
        except DataError as error:
            problems.append(f"{region}: {error.found}")
    raise EmptyDataset(
        expected=f"one region of {', '.join(regions)} with readable samples, to compare the export with its source",
        found="; ".join(problems) or "no region",
        remedy="mend the data of one of them",
    )

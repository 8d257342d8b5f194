"""Model to ONNX."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.contracts import ExportedModel
from regiolect.export.cached import cached_export
from regiolect.planning import load_model_spec
from regiolect.release import stages
from regiolect.settings import shared_store
from tasks.in_child import in_child, one_child


@task(name="export", tags=["cpu"], cache_policy=NO_CACHE)
def export(address: str, regions: tuple[str, ...]) -> ExportedModel:
    def anew() -> ExportedModel:
        with one_child(address):
            return in_child(stages.export, address, regions)

    return cached_export(load_model_spec(address), shared_store(), anew)

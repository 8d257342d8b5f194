"""Model to ONNX."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.contracts import ExportedModel
from regiolect.export.once import export_once
from regiolect.machine import sharing_machine
from regiolect.model import load_model_spec
from regiolect.settings import load_settings


@task(name="export", tags=["cpu"], cache_policy=NO_CACHE)
def export(model: str, regions: tuple[str, ...]) -> ExportedModel:
    with sharing_machine():
        return export_once(load_model_spec(model), load_settings().store(), regions)

"""An INT8 engine beside the FP32 engine of the same backend: built alike, run in turn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import (
    BatchProfile,
    BuildRequest,
    CalibrationTable,
    DimensionProfile,
    EngineArtifact,
    ExportedModel,
    Performance,
    Precision,
    RegionId,
    Target,
)
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.evaluate.timing import measure
from regiolect.graphs import typed_graph
from regiolect.host.lock import whole_machine
from regiolect.integrity import digest_of
from regiolect.precision import Recipe
from regiolect.storage import LocalStore


class Times(TypedDict):
    """Medians of one batch, in milliseconds, and FP32's over INT8's."""

    batch: int
    fp32_ms: float
    int8_ms: float
    ratio: float
    rounds: int


def built(
    name: str,
    region: RegionId,
    model: ExportedModel,
    recipe: Recipe,
    table: CalibrationTable | None,
    store: LocalStore,
    *,
    precision: Precision,
    wider: Collection[str] = (),
    shapes: Mapping[str, DimensionProfile] | None = None,
    tf32: bool = False,
) -> EngineArtifact:
    """The engine of a recipe.

    name: the backend's. wider: operators that INT8 leaves out, by their outputs. shapes, tf32: as of a build request.
    """
    graph = typed_graph(model, region, precision, recipe, table, store, wider)
    request = BuildRequest(
        model=model.name,
        region=region,
        target=Target(name="benchmark", backend=name),
        precision=precision,
        graph=graph,
        inputs=model.inputs,
        outputs=model.outputs,
        profile=BatchProfile(),
        shapes=shapes or {},
        performance=Performance.LATENCY,
        policy=digest_of({"policy": "benchmark"}),
        build_key=digest_of({"backend": name, "graph": graph.digest}),
        tf32=tf32,
    )
    return backend(name).build(request, store, calibration=digest_of(table) if table else None)


def engine(
    name: str,
    region: RegionId,
    model: ExportedModel,
    recipe: Recipe,
    table: CalibrationTable | None,
    store: LocalStore,
    *,
    wider: Collection[str] = (),
    shapes: Mapping[str, DimensionProfile] | None = None,
) -> Engine:
    """The same, loaded: INT8 with a table, FP32 without one."""
    precision = Precision.FP32 if table is None else Precision.INT8
    artifact = built(name, region, model, recipe, table, store, precision=precision, wider=wider, shapes=shapes)
    return backend(name).load(artifact, store)


def times(narrow: Engine, wide: Engine, inputs: Mapping[str, NDArray[np.generic]], seconds: float) -> Times:
    """Both on the same batch in turn, for so many seconds."""
    batch = len(next(iter(inputs.values())))
    with whole_machine():
        timing = measure(
            lambda: narrow.run(inputs), lambda: wide.run(inputs), batch, seconds=seconds, most=2000, confidence=0.95
        )
    return {
        "batch": batch,
        "fp32_ms": round(timing.baseline_p50_ms, 2),
        "int8_ms": round(timing.p50_ms, 2),
        "ratio": round(timing.speedup, 2),
        "rounds": timing.rounds,
    }

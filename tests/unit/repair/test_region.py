"""A region's graph on a machine that its engines do not run on."""

from __future__ import annotations

from typing import Any

import pytest

from regiolect.contracts import CalibrationTable, Precision, Target
from regiolect.engines.catalog import backend
from regiolect.engines.obstacle import Obstacle
from regiolect.integrity import digest_of
from regiolect.planning import RegionRequest
from regiolect.policy import PolicyBook
from regiolect.repair import choose_graph


def test_where_no_device_scores_it_the_stated_graph_says_that_it_was_not_repaired(
    bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(backend("tensorrt-rtx")), "obstacle", lambda self: Obstacle("device", "no GPU", "get one"))
    table = CalibrationTable.model_construct()
    monkeypatch.setattr("regiolect.repair.region._tables", lambda *_: lambda method: table)
    parts = {"model": "a"}
    request = RegionRequest(
        address="m:MODEL",
        name="tiny",
        policy=PolicyBook().load("na"),
        target=Target(name="gpu-rtx", backend="tensorrt-rtx"),
        build_key=digest_of(parts),
        key_parts=parts,
    )
    nothing: Any = None
    said: list[str] = []
    chosen = choose_graph(request, nothing, nothing, nothing, nothing, bundles.store, say=said.append)
    assert (chosen.choice.precision, chosen.journal) == (Precision.INT8, None)
    assert chosen.unrepaired == "not repaired, which takes a device to score it on: no GPU"
    assert said == [f"na gpu-rtx: {chosen.choice.summary()}: {chosen.unrepaired}"]

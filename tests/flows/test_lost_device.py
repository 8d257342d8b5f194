"""A device that goes away while it builds, attests or scores costs its region that run, by name, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tasks.build
import tasks.choose
import tasks.evaluate
from flows.release import release
from regiolect.console import exit_code
from regiolect.contracts import Decision, ReleaseRow
from regiolect.engines.openvino.backend import OpenVinoBackend
from regiolect.engines.openvino.runtime import OpenVinoEngine
from regiolect.errors import DeviceLost
from tests.flows.kept import is_served, plan
from tests.flows.tiny_models import ADDRESS, Workshop

# The stage in which the device goes away: the task's module, the function that its body calls, and what an engine does
# then that needs the device.
STAGES = {
    "choose": (tasks.choose, "choose_graph", (OpenVinoEngine, "_run")),
    "build": (tasks.build, "build_engine", (OpenVinoBackend, "_build")),
    "attest": (tasks.build, "attest", (OpenVinoEngine, "layers")),
    "evaluate": (tasks.evaluate, "evaluate_engine", (OpenVinoEngine, "_run")),
}


def _loses_device(patch: pytest.MonkeyPatch, stage: str, region: str) -> None:
    """From the start of that stage in that region on, the device no longer answers there."""
    module, function, (kind, method) = STAGES[stage]
    reached: list[str] = []
    run: Callable[..., Any] = getattr(module, function)
    work: Callable[..., Any] = getattr(kind, method)

    def started(*given: Any, **how: Any) -> Any:
        reached.append(stage)
        return run(*given, **how)

    def lost(self: Any, *given: Any) -> Any:
        asked = self.artifact.request if isinstance(self, OpenVinoEngine) else given[1]
        if reached and asked.region == region:
            raise DeviceLost("an NVIDIA GPU that answers its driver", "GPU is lost", "look at `nvidia-smi`")
        return work(self, *given)

    patch.setattr(module, function, started)
    patch.setattr(kind, method, lost)


def _row(rows: tuple[ReleaseRow, ...], region: str) -> ReleaseRow:
    (row,) = [row for row in rows if row.region == region]
    return row


@pytest.mark.parametrize("stage", STAGES)
def test_a_lost_device_refuses_its_region_and_the_next_release_completes_it(workshop: Workshop, stage: str) -> None:
    workshop.add("north")
    workshop.add("south")
    with pytest.MonkeyPatch.context() as patch:
        _loses_device(patch, stage, "north")
        result = release(ADDRESS)
    north, south = _row(result.rows, "north"), _row(result.rows, "south")
    assert north.decision is Decision.REFUSED
    assert north.failure is not None
    assert (north.failure.kind, north.failure.found) == ("DeviceLost", "GPU is lost")
    assert north.failure.remedy == "look at `nvidia-smi`"
    assert not is_served("north")
    assert (south.decision, south.model_uri) == (Decision.APPROVED, "models:/tiny-south@champion")
    assert exit_code(result) == 1
    assert plan().engines[0].reason == "the last run ended in DeviceLost"

    mended = release(ADDRESS)
    assert {row.region: row.rebuilt for row in mended.rows} == {"north": True, "south": False}
    assert {row.decision for row in mended.rows} == {Decision.APPROVED}
    assert is_served("north")

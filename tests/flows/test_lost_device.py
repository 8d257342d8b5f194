"""A device that goes away while it builds, attests or scores costs its region that run, by name, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

import regiolect.attest
from flows.release import release
from regiolect.cli.exit_codes import exit_code
from regiolect.contracts import Decision
from regiolect.engines.openvino.backend import OpenVinoBackend
from regiolect.engines.openvino.runtime import OpenVinoEngine
from regiolect.errors import DeviceLost
from regiolect.release import stages
from tests.flows.kept import is_served, plan
from tests.flows.tiny_models import ADDRESS, Workshop

# Each region is named after the stage in which its device goes away: a module, the function of it that the stage calls,
# and what is done then that needs the device.
STAGES: dict[str, tuple[Any, str, tuple[type, str]]] = {
    "choose": (stages, "choose_graph", (OpenVinoEngine, "_run")),
    "build": (stages, "build_engine", (OpenVinoBackend, "_build")),
    "attest": (regiolect.attest, "attest", (OpenVinoEngine, "layers")),
    "tune": (stages, "tune_region", (OpenVinoEngine, "_run")),
    "evaluate": (stages, "evaluate_engine", (OpenVinoEngine, "_run")),
}
_stage = ContextVar("stage", default="")


def _in_stage(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def run(*given: Any, **how: Any) -> Any:
        token = _stage.set(stage)
        try:
            return work(*given, **how)
        finally:
            _stage.reset(token)

    return run


def _with_device(work: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Any, *given: Any) -> Any:
        asked = self.artifact.request if isinstance(self, OpenVinoEngine) else given[1]
        if asked.region == _stage.get():
            raise DeviceLost("an NVIDIA GPU that answers its driver", f"lost to {asked.region}", "look at `nvidia-smi`")
        return work(self, *given)

    return run


@contextmanager
def _devices_go_away() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for stage, (module, function, _) in STAGES.items():
            patch.setattr(module, function, _in_stage(stage, getattr(module, function)))
        for kind, method in {needs for _, _, needs in STAGES.values()}:
            patch.setattr(kind, method, _with_device(getattr(kind, method)))
        yield


def test_a_lost_device_refuses_its_region_and_the_next_release_completes_it(
    one_process: None, workshop: Workshop
) -> None:
    for region in (*STAGES, "north"):
        rules = {"tuning": {"minutes": 0.1}} if region == "tune" else {}
        # INT8 alone has a graph chosen by its scores, and its engine is built for that already.
        workshop.add(region, precision="INT8" if region == "choose" else "FP32", **rules)
    with _devices_go_away():
        result = release(ADDRESS)
    rows = {row.region: row for row in result.rows}
    for stage in STAGES:
        failure = rows[stage].failure
        assert rows[stage].decision is Decision.REFUSED
        assert failure is not None
        assert (failure.kind, failure.found) == ("DeviceLost", f"lost to {stage}")
        assert failure.remedy == "look at `nvidia-smi`"
        assert rows[stage].model_uri is None
        assert not is_served(stage)
    assert (rows["north"].decision, rows["north"].model_uri) == (Decision.APPROVED, "models:/tiny-north@champion")
    assert exit_code(result) == 1
    assert {engine.region: engine.reason for engine in plan().engines if engine.action == "build"} == dict.fromkeys(
        STAGES, "the last run ended in DeviceLost"
    )

    mended = release(ADDRESS, regions=["evaluate", "north"])
    assert [(row.decision, row.rebuilt) for row in mended.rows] == [
        (Decision.APPROVED, True),
        (Decision.APPROVED, False),
    ]
    assert is_served("evaluate")

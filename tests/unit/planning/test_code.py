"""Code that nobody lists among a spec's sources: a change in it rebuilds, and the plan names the file."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from regiolect.errors import ChangedMeanwhile
from regiolect.model import ModelSpec
from regiolect.planning import Installation, PlannedEngine, ReleaseRequest, plan_release, require_planned
from regiolect.policy import PolicyBook
from tests.flows.tiny_models import ADDRESS, Workshop

CODE = {
    "spec_of_mine": "def load():\n    import network_of_mine\n    return network_of_mine.NET\n",
    "network_of_mine": "NET, BIAS = 'a network', 0\n",
    "metric_of_mine": "from helper_of_mine import right\ndef accuracy(outputs, targets):\n    return right(outputs)\n",
    "helper_of_mine": "right = len\n",
    "source_of_mine": "import camera_of_mine\nfrom regiolect.data import FolderSource\n"
    "class Source(FolderSource):\n    pass\n",
    "camera_of_mine": "",
}


@pytest.fixture
def code(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], ModelSpec]]:
    """The workshop's spec with a loader, a metric and sources of data that files of its own define."""
    monkeypatch.syspath_prepend(workshop.folder)
    for name, text in CODE.items():
        (workshop.folder / f"{name}.py").write_text(text)

    def spec() -> ModelSpec:
        usual, mine = workshop.spec(), importlib.import_module
        own = mine("source_of_mine").Source
        data = {region: own(region, workshop.data(region), source.declared) for region, source in usual.data.items()}
        load, metrics = mine("spec_of_mine").load, {"accuracy": mine("metric_of_mine").accuracy}
        return replace(usual, loader=load, sources=(workshop.model,), metrics=metrics, data=data)

    yield spec
    for name in CODE:
        sys.modules.pop(name, None)


@pytest.fixture
def planned(workshop: Workshop, store, code) -> Callable[[], PlannedEngine]:
    """The one engine of a plan."""

    def make() -> PlannedEngine:
        here = Installation(PolicyBook(workshop.policies), lambda region: store)
        (engine,) = plan_release(ReleaseRequest(address=ADDRESS, regions=("north",)), code(), here).engines
        return engine

    return make


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("spec_of_mine.py", "the model (spec_of_mine.py)"),
        ("network_of_mine.py", "the model (network_of_mine.py)"),
        ("model.onnx", "the model (model.onnx)"),
        ("metric_of_mine.py", "the metric's code (metric_of_mine.py)"),
        ("helper_of_mine.py", "the metric's code (helper_of_mine.py)"),
        ("source_of_mine.py", "the region's data (source_of_mine.py)"),
        ("camera_of_mine.py", "the region's data (camera_of_mine.py)"),
    ],
)
def test_a_change_in_code_that_nobody_listed_is_named_by_its_file(
    build, workshop: Workshop, code, planned, file: str, reason: str
) -> None:
    before = planned().request
    build(before)
    assert planned().action == "reuse"
    path = workshop.folder / file
    path.write_bytes(path.read_bytes() + b"\n# A line that may add 1 to a bias.\n")
    assert (planned().action, planned().reason) == ("rebuild", f"changed: {reason}")
    with pytest.raises(ChangedMeanwhile, match=re.escape(f"({file})")):
        require_planned(before, code())


def test_a_file_that_the_code_imports_from_now_on_is_told_as_new(build, workshop: Workshop, planned) -> None:
    build(planned().request)
    (workshop.folder / "network_of_mine.py").write_text("import metric_of_mine\nNET = 'another'\n")
    said = "helper_of_mine.py is new, metric_of_mine.py is new, network_of_mine.py"
    assert planned().reason == f"changed: the model ({said})"

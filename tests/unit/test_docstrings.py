"""The examples in docstrings of what people meet first run as they stand, beside a model and a bundle."""

from __future__ import annotations

import doctest
import sys

import numpy as np
import pytest

from regiolect.contracts import Preprocessing
from regiolect.data import Samples
from regiolect.engines import catalog
from regiolect.engines.base import Backend
from regiolect.host.isolated import Child
from regiolect.model import ModelSpec
from regiolect.serving import load_bundle
from regiolect.storage import Store
from tests.tiny_graph import dense

SHOWN = {thing.__name__: thing for thing in (ModelSpec, Samples, Preprocessing, load_bundle, Backend, Store)}


@pytest.fixture
def folder(bundles, tmp_path, monkeypatch):
    """The working directory: `model.onnx`, and `bundle` with an engine of it that runs here."""
    graph = dense(np.ones((16, 3), np.float32))
    engine = catalog.backend("onnxruntime").build(bundles.request("eu", "cpu", "onnxruntime", graph), bundles.store)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "model.onnx").write_bytes(graph)
    bundles.write(tmp_path / "here" / "bundle", engine)
    monkeypatch.chdir(tmp_path / "here")


@pytest.mark.parametrize("name", SHOWN)
def test_its_example_runs_and_it_says_what_it_takes(name: str, folder: None) -> None:
    shown = SHOWN[name]
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(shown, name, globs=dict(vars(sys.modules[shown.__module__])))
    told = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert told.attempted > 1
    assert told.failed == 0, "see above"


def test_the_example_of_children_runs_where_it_is_explained() -> None:
    isolated = sys.modules[Child.__module__]
    assert doctest.testmod(isolated).failed == 0

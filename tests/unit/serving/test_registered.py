"""An engine by its registered name: as verified as through MLflow, whose settings are neither asked nor changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest

import regiolect
from regiolect.engines import catalog
from regiolect.errors import (
    AliasMoved,
    ForeignRegion,
    IntegrityError,
    NoTrust,
    StatementMismatch,
    UsageError,
)
from regiolect.registry import CHAMPION, Registry
from regiolect.registry.connection import mlflow_client
from tests.databases import Databases
from tests.tiny_graph import dense

pytestmark = pytest.mark.slow

IMAGES = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry that embedded releases have in their home."""
    for name in ("MLFLOW_TRACKING_URI", "REGIOLECT_MLFLOW_TRACKING_URI", "REGIOLECT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REGIOLECT_HOME", str(tmp_path / "home"))
    return Registry(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")


@pytest.fixture
def register(registry, bundles, databases: Databases, tmp_path) -> Callable[..., None]:
    def call(target: str, champion: bool = True) -> None:
        if not (tmp_path / "home").exists():
            databases.put_mlflow(tmp_path / "home")
        graph = dense(np.ones((16, 3), np.float32))
        engine = catalog.backend("onnxruntime").build(
            bundles.request("eu", target, "onnxruntime", graph), bundles.store
        )
        registry.register(tmp_path / target, bundles.write(tmp_path / target, engine), champion=champion)

    return call


def test_what_is_loaded_is_what_mlflow_loads_and_its_settings_stay(registry, register, monkeypatch) -> None:
    register("first")
    register("second", champion=False)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri(), dict(os.environ)
    for name, target in (
        ("tiny-eu", "first"),
        ("tiny-eu@champion", "first"),
        ("models:/tiny-eu@champion", "first"),
        ("tiny-eu/2", "second"),
        ("models:/tiny-eu@challenger", "second"),
    ):
        engine = regiolect.load(name)
        assert engine.target == target
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == before[:2]
    assert {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_TRACKING")} == {}
    answers = engine.predict(IMAGES)["logits"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking_uri)
    mlflow.set_tracking_uri(registry.tracking_uri)
    try:
        same = mlflow.pyfunc.load_model("models:/tiny-eu@challenger").predict(IMAGES)["logits"]
    finally:
        mlflow.set_tracking_uri(None)
    np.testing.assert_array_equal(answers, same)


def test_no_door_is_weaker(registry, register, bundles, tmp_path) -> None:
    register("first")
    register("second", champion=False)
    with pytest.raises(ForeignRegion, match="models:/tiny-na@champion"):
        regiolect.load("tiny-eu@champion", region="na")
    assert "REGIOLECT_REGION" not in os.environ
    with pytest.raises(NoTrust, match="REGIOLECT_TRUST"):
        regiolect.load("tiny-eu@champion", trust=tmp_path / "nobody.json")
    client = mlflow_client(registry.tracking_uri)
    client.set_registered_model_alias("tiny-eu", CHAMPION, "2")
    for name in ("tiny-eu@champion", "tiny-eu/2"):
        with pytest.raises(AliasMoved, match="moved by hand"):
            regiolect.load(name)
    assert regiolect.load("tiny-eu/1").target == "first", "approved and signed, and champion no more"
    client.set_registered_model_alias("tiny-eu", CHAMPION, "1")
    source = client.get_model_version("tiny-eu", "1").source
    client.create_registered_model("other-eu")
    client.create_model_version("other-eu", source)
    with pytest.raises(StatementMismatch, match="one of tiny-eu"):
        regiolect.load("other-eu/1")
    (engine,) = (file for file in (tmp_path / "home" / "mlartifacts").rglob("engine.onnx") if "first" in str(file))
    engine.chmod(0o644)
    engine.write_bytes(engine.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError):
        regiolect.load("tiny-eu@champion")


def test_what_is_not_there_is_named_with_what_is(registry, register, tmp_path) -> None:
    with pytest.raises(UsageError, match="release it first"):
        regiolect.load("tiny-eu@champion")
    assert not (tmp_path / "home").exists(), "no database was made"
    register("first", champion=False)
    for name, told in (
        ("tiny-eu@champion", "@challenger, version 1.*regiolect run MODEL --regions eu"),
        ("tiny-eu/2", "@challenger, version 1"),
        ("tiny-ue", "did you mean 'tiny-eu'"),
        ("tiny-eu@", "MODEL-REGION@ALIAS"),
        ("../tiny-eu", "MODEL-REGION@ALIAS"),
    ):
        with pytest.raises(UsageError, match=told):
            regiolect.load(name)
    mlflow_client(registry.tracking_uri).delete_model_version("tiny-eu", "1")
    with pytest.raises(UsageError, match="no alias: no release of it was approved"):
        regiolect.load("tiny-eu@challenger")

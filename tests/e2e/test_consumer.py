"""The consumer's side: a fresh process loads a champion by its alias and predicts from raw inputs."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from regiolect.data import preprocess
from regiolect.engines import catalog
from regiolect.errors import AliasMoved, IntegrityError, InvalidSamples, NotRunnableHere, NoTrust, RegistryError
from regiolect.registry import CHAMPION, Registry
from regiolect.registry.connection import mlflow_client
from regiolect.serving import load_bundle
from tests.patience import PATIENCE
from tests.tiny_graph import dense

CONSUMER = """
import sys, numpy as np, mlflow
model = mlflow.pyfunc.load_model("models:/tiny-eu@champion")
np.save(sys.argv[2], model.predict(np.load(sys.argv[1]))["logits"])
assert not {"torch", "prefect", "great_expectations"} & set(sys.modules), "a consumer needs no orchestrator"
try:
    model.predict(np.load(sys.argv[1]).astype("float64"))
except mlflow.exceptions.MlflowException as error:
    print("refused:", error.message.splitlines()[0])
"""


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(16, 3)).astype(np.float32)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, (7, 1, 4, 4), np.uint8)


@pytest.fixture
def expected(bundles, weights, images) -> np.ndarray:
    prepared = preprocess(images, bundles.exported().preprocessing)
    return prepared.reshape(len(images), -1) @ weights


@pytest.fixture
def real(bundles, weights):
    """Builds a real engine of the tiny model."""

    def build(target: str, backend: str):
        request = bundles.request("eu", target, backend, dense(weights))
        return catalog.backend(backend).build(request, bundles.store)

    return build


@pytest.fixture
def registry(databases, tmp_path) -> Registry:
    databases.put_mlflow(tmp_path)
    return Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")


@pytest.fixture
def consumer(monkeypatch):
    """What a consumer's process does, in this one."""
    import mlflow

    def load(tracking_uri: str, **variables: str):
        with monkeypatch.context() as patch:
            for name, value in {**_consumers(tracking_uri), **variables}.items():
                patch.setenv(name, value)
            return mlflow.pyfunc.load_model("models:/tiny-eu@champion")

    return load


def _consumers(tracking_uri: str) -> dict[str, str]:
    """What is set where a consumer runs."""
    return {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_DISABLE_TELEMETRY": "true"}


def _consume(tracking_uri: str, folder: Path, images: np.ndarray) -> tuple[np.ndarray, str]:
    np.save(folder / "in.npy", images)
    environment = {**os.environ, **_consumers(tracking_uri)}
    command = [sys.executable, "-c", CONSUMER, str(folder / "in.npy"), str(folder / "out.npy")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "out.npy"), done.stdout


def test_a_fresh_process_loads_the_champion_and_predicts(bundles, real, images, expected, registry, tmp_path):
    manifest = bundles.write(tmp_path / "bundle", real("cpu", "openvino"), real("portable", "onnxruntime"))
    registry.register(tmp_path / "bundle", manifest, champion=True)
    answer, said = _consume(registry.tracking_uri, tmp_path, images)
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4)
    assert said.startswith("refused:"), "the signature tells the raw dtype"
    files = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in files}
    assert not suffixes & {".py", ".pyc", ".pkl", ".pickle", ".so"}
    assert {"MLmodel", "manifest.json", "requirements.txt"} <= {path.name for path in files}
    wanted = next(path for path in files if path.name == "requirements.txt").read_text()
    names = {line.split("==")[0] for line in wanted.splitlines()}
    assert names == {"mlflow", "regiolect[onnxruntime,openvino]", "openvino", "onnxruntime"}


def test_a_champion_that_no_release_made_or_nobody_trusts_is_refused(bundles, real, registry, consumer, tmp_path):
    for number, target in enumerate(("first", "second")):
        manifest = bundles.write(tmp_path / target, real(target, "onnxruntime"))
        registry.register(tmp_path / target, manifest, champion=number == 0)
    client = mlflow_client(registry.tracking_uri)
    client.set_registered_model_alias("tiny-eu", CHAMPION, "2")
    with pytest.raises(AliasMoved):
        consumer(registry.tracking_uri)
    client.set_registered_model_alias("tiny-eu", CHAMPION, "1")
    assert consumer(registry.tracking_uri).metadata.signature is not None
    with pytest.raises(NoTrust):
        consumer(registry.tracking_uri, REGIOLECT_TRUST=str(tmp_path / "absent.json"))


def test_the_same_through_a_server(bundles, real, images, expected, databases, consumer, tmp_path):
    databases.put_mlflow(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(tmp_path / "kept")]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        registry = Registry(uri)
        _wait_for(registry, server, tmp_path / "server.log")
        manifest = bundles.write(tmp_path / "bundle", real("cpu", "openvino"))
        made = registry.register(tmp_path / "bundle", manifest, champion=True)
        assert registry.register(tmp_path / "bundle", manifest, champion=True) == made
        assert made.version == 1
        assert registry.champion("tiny", "eu") == made
        with registry.downloaded(made) as folder:
            assert load_bundle(folder).target == "cpu"
        np.testing.assert_allclose(consumer(uri).predict(images)["logits"], expected, rtol=1e-4, atol=1e-4)
        report = tmp_path / "report.html"
        report.write_text("<p>done</p>")
        assert registry.log_report("tiny", report, {"regions": 1}).endswith("report.html")
        assert [path.read_text() for path in (tmp_path / "kept").rglob("report.html")] == ["<p>done</p>"]
    finally:
        server.terminate()
        server.wait(timeout=PATIENCE)


def _wait_for(registry: Registry, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            registry.champion("tiny", "eu")
            return
        except RegistryError:
            with pytest.raises(subprocess.TimeoutExpired):
                pytest.fail(f"the server ended with {server.wait(timeout=0.2)}: {log.read_text()}")
    pytest.fail(f"the server did not start: {log.read_text()}")


def test_a_bundle_predicts_without_mlflow(bundles, real, images, expected, tmp_path):
    bundles.write(tmp_path / "bundle", real("cpu", "onnxruntime"))
    model = load_bundle(tmp_path / "bundle")
    np.testing.assert_allclose(model.predict(images)["logits"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.predict({"image": images[:1]})["logits"], expected[:1], rtol=1e-4, atol=1e-4)
    script = (
        "import sys; from pathlib import Path; from regiolect.serving import load_bundle;"
        "load_bundle(Path(sys.argv[1]));"
        "print(sorted({'mlflow', 'prefect', 'torch', 'great_expectations'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "bundle")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_inputs_that_are_not_raw_are_refused(bundles, real, images, tmp_path):
    bundles.write(tmp_path / "bundle", real("cpu", "onnxruntime"))
    model = load_bundle(tmp_path / "bundle")
    with pytest.raises(InvalidSamples, match="uint8"):
        model.predict(images.astype(np.float32) / 255)
    with pytest.raises(InvalidSamples, match="image"):
        model.predict({"picture": images})
    with pytest.raises(InvalidSamples, match="shape"):
        model.predict(images[:, :, :2])


def test_the_first_engine_that_runs_here_is_taken(bundles, real, images, expected, tmp_path):
    unreadable = bundles.artifact("eu", target="first", backend="onnxruntime", content=b"no engine at all")
    bundles.write(tmp_path / "bundle", unreadable, real("second", "onnxruntime"))
    model = load_bundle(tmp_path / "bundle")
    assert model.target == "second"
    np.testing.assert_allclose(model.predict(images)["logits"], expected, rtol=1e-4, atol=1e-4)
    bundles.write(tmp_path / "none", unreadable)
    with pytest.raises(NotRunnableHere, match="first: "):
        load_bundle(tmp_path / "none")


def test_a_runtime_of_another_version_is_told(bundles, real, images, expected, tmp_path):
    built = real("cpu", "onnxruntime")
    bundles.write(tmp_path / "older", built.model_copy(update={"backend_version": "1.2.3"}))
    with pytest.warns(UserWarning, match=rf"version 1\.2\.3 there, {re.escape(built.backend_version)} here$"):
        model = load_bundle(tmp_path / "older")
    np.testing.assert_allclose(model.predict(images)["logits"], expected, rtol=1e-4, atol=1e-4)
    bundles.write(tmp_path / "same", built)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_bundle(tmp_path / "same")


def test_a_changed_file_is_refused_before_any_engine_is_loaded(bundles, real, tmp_path):
    bundles.write(tmp_path / "bundle", real("cpu", "onnxruntime"), bundles.artifact("eu", target="other"))
    (tmp_path / "bundle/engines/other/engine.onnx").write_bytes(b"another engine")
    with pytest.raises(IntegrityError, match=r"other/engine\.onnx"):
        load_bundle(tmp_path / "bundle")

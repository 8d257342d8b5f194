"""Whoever only runs engines has their library, and nothing that builds, registers or orchestrates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from regiolect.engines import catalog
from regiolect.serving import load_bundle
from tests.patience import PATIENCE
from tests.tiny_graph import dense

# `None` there makes every import of that name fail.
CONSUMER = """
import sys
for name in ("onnx", "onnxscript", "mlflow", "prefect", "torch"):
    sys.modules[name] = None
import numpy as np
from pathlib import Path
from regiolect.errors import AttestationFailed
from regiolect.bundle.manifest import engine_folder, read_bundle
from regiolect.engines import catalog
from regiolect.serving import load_bundle
served = load_bundle(Path(sys.argv[1]))
print(served.target)
(approved,) = read_bundle(Path(sys.argv[1])).engines
backend = catalog.backend(approved.engine.request.target.backend)
engine = backend.load_from(approved.engine, Path(sys.argv[1], engine_folder("cpu")))
answer = served.predict(np.full((5, 1, 4, 4), 255, np.uint8))["logits"]
np.testing.assert_allclose(answer, np.load(sys.argv[2]), rtol=1e-3)
try:
    print(len(engine.layers()), "layers")
except AttestationFailed as error:
    print(error.remedy)
"""


@pytest.mark.parametrize(("backend", "layers"), [("onnxruntime", "pip install onnx"), ("openvino", "layers")])
def test_a_bundle_is_loaded_and_run_without_what_built_it(backend: str, layers: str, bundles, tmp_path: Path) -> None:
    weights = np.random.default_rng(7).normal(size=(16, 3)).astype(np.float32)
    request = bundles.request("eu", "cpu", backend, dense(weights))
    bundles.write(tmp_path / "bundle", catalog.backend(backend).build(request, bundles.store))
    expected = load_bundle(tmp_path / "bundle").predict(np.full((5, 1, 4, 4), 255, np.uint8))["logits"]
    np.save(tmp_path / "expected.npy", expected)
    done = subprocess.run(
        [sys.executable, "-c", CONSUMER, str(tmp_path / "bundle"), str(tmp_path / "expected.npy")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cpu\n")
    assert done.stdout.strip().endswith(layers)

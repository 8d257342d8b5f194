"""`examples.fashion:MODEL` is found, is cheap to import, and classifies as well as its weights claim."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import examples
from examples.fashion import MODEL, WEIGHTS
from examples.fashion.cameras import CAMERA_DIGEST, CAMERAS
from examples.fashion.data import originals
from regiolect.contracts import Split
from regiolect.data import model_inputs, preprocess
from regiolect.planning import load_model_spec

pytestmark = pytest.mark.slow

ROOT = Path(examples.__file__).parent.parent
README = (WEIGHTS.parent / "README.md").read_text()


@pytest.fixture(scope="module")
def predict():
    import torch

    network = MODEL.loader()

    def run(prepared: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {"logits": network(torch.from_numpy(prepared)).numpy()}

    return run


@pytest.fixture(scope="module")
def claims() -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(WEIGHTS, "numpy") as weights:
        return dict(weights.metadata())


@pytest.fixture(scope="module")
def accuracy(claims) -> dict[str, float]:
    return json.loads(claims["accuracy_percent"])


def test_the_spec_is_found_by_its_address_and_has_every_region():
    assert load_model_spec("examples.fashion:MODEL") is MODEL
    assert set(MODEL.data) == set(CAMERAS)
    assert all(MODEL.region_data(region).region == region for region in CAMERAS)


def test_importing_the_example_loads_no_framework_and_no_image():
    code = (
        "import sys, regiolect.model, examples.fashion, examples.fashion.data as d;"
        "print([m for m in ('torch', 'onnx', 'safetensors', 'prefect', 'mlflow') if m in sys.modules],"
        " d._read.cache_info().misses)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] 0"


def test_the_network_is_small_and_ready_to_export():
    network = MODEL.loader()
    assert not any(module.training for module in network.modules())
    assert sum(parameter.numel() for parameter in network.parameters()) < 150_000


def test_preprocessing_centres_the_clean_images():
    prepared = preprocess(originals("train").images[:, None], MODEL.preprocessing)
    assert prepared.mean() == pytest.approx(0, abs=0.02)
    assert prepared.std() == pytest.approx(1, abs=0.02)


def test_the_weights_reach_their_recorded_accuracy_on_clean_images(predict, accuracy):
    clean = originals("test")
    outputs = predict(preprocess(clean.images[:2_000, None], MODEL.preprocessing))
    reached = MODEL.metrics["accuracy"](outputs, clean.labels[:2_000]).mean() * 100
    assert accuracy["clean"] >= 87
    # Four standard errors of 2,000 samples.
    assert reached == pytest.approx(accuracy["clean"], abs=2.7)


@pytest.mark.parametrize(
    "region", ["hk", *(pytest.param(name, marks=pytest.mark.acceptance) for name in ("eu", "sea"))]
)
def test_the_weights_reach_their_recorded_accuracy_in_a_region(predict, accuracy, region):
    samples = MODEL.region_data(region).load(Split.SELECTION)
    outputs = predict(model_inputs(samples, MODEL.preprocessing)["image"])
    reached = MODEL.metrics["accuracy"](outputs, samples.targets).mean() * 100
    # The same samples: only another processor's rounding, or another NumPy's noise, may tip a few of 1,000.
    assert reached == pytest.approx(accuracy[region], abs=1.0)


def test_the_weights_and_the_readme_record_the_same_figures_for_the_same_cameras(claims, accuracy):
    assert claims["cameras"] == CAMERA_DIGEST
    assert CAMERA_DIGEST in README
    assert "simulated" in README.lower()
    assert f"| clean | {accuracy['clean']:.2f} % |" in README
    for region in CAMERAS:
        row = next(line for line in README.splitlines() if line.startswith(f"| `{region}` |"))
        assert row.endswith(f"| {accuracy[region]:.1f} % |")

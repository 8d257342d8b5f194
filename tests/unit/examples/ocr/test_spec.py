"""`examples.ocr:MODEL` is found, is cheap to import, and reads as well as its README claims, padded or not."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import examples
from examples.ocr import MODEL
from examples.ocr.data import LineSource, Sizes
from examples.ocr.lines import STYLE_DIGEST, STYLES, draw
from examples.ocr.metrics import character_accuracies, read
from examples.ocr.packages import model_file
from regiolect.contracts import BatchProfile, BuildRequest, Performance, Precision, Split, Target
from regiolect.data import model_inputs, preprocess
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.engines.onnxruntime.session import open_session
from regiolect.errors import ShapeOutsideProfile
from regiolect.export import export_model
from regiolect.integrity import digest_bytes
from regiolect.planning import load_model_spec
from regiolect.policy import PolicyBook
from regiolect.storage import LocalStore

pytestmark = pytest.mark.slow

ROOT = Path(examples.__file__).parent.parent
README = (ROOT / "examples/ocr/README.md").read_text()
LINES = 64


@pytest.fixture(scope="module")
def network():
    """The file as it came: takes any width."""
    session = open_session(model_file().read_bytes())
    return lambda x: read({"y": session.run(None, {"x": x})[0]})


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """FP32 engines of the exported model under the policy of `me`, which pads to buckets."""
    store = LocalStore(tmp_path_factory.mktemp("ocr"))
    samples = LineSource(STYLES["me"], Sizes(calibration=4)).load(Split.CALIBRATION)
    model = export_model(MODEL, store, samples)

    @cache
    def make(name: str) -> Engine:
        request = BuildRequest(
            model="ocr",
            region="me",
            target=Target(name="here", backend=name),
            precision=Precision.FP32,
            graph=model.graph,
            inputs=model.inputs,
            outputs=model.outputs,
            profile=BatchProfile(min=1, opt=4, max=4),
            shapes=PolicyBook().load("me").shapes_for(model.inputs),
            performance=Performance.LATENCY,
            policy=digest_bytes(b"policy"),
            build_key=digest_bytes(b"key"),
        )
        return backend(name).load(backend(name).build(request, store), store)

    return make


@dataclass(frozen=True)
class Line:
    """A line of `me` without padding, float32 (1, 3, 48, its width), and what the network reads there."""

    text: str
    x: NDArray[np.float32]
    alone: str


@pytest.fixture(scope="module")
def lines(network):
    style = STYLES["me"]
    texts = LineSource(style, Sizes(selection=24)).load(Split.SELECTION).targets.tolist()
    drawn = [draw(text, style, np.random.default_rng(index)) for index, text in enumerate(texts)]
    prepared = [preprocess(line[None], MODEL.preprocessing) for line in drawn]
    return [Line(text, x, network(x)[0]) for text, x in zip(texts, prepared, strict=True)]


def test_the_spec_is_found_by_its_address_and_has_every_region():
    assert load_model_spec("examples.ocr:MODEL") is MODEL
    assert set(MODEL.data) == set(STYLES)
    assert "SIMULATED" in MODEL.note


def test_every_built_in_policy_finds_its_metric_and_its_profile():
    for policy in PolicyBook().all():
        assert policy.accuracy.metric in MODEL.metrics
        assert set(policy.shapes_for(MODEL.inputs)) == {"width"}


def test_importing_the_example_loads_no_framework_and_no_font():
    code = (
        "import sys, regiolect.model, examples.ocr;"
        "print([m for m in ('torch', 'onnx', 'PIL', 'matplotlib', 'rapidocr_onnxruntime', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_network_reads_as_well_as_the_readme_claims(network):
    style = STYLES["br"]
    samples = LineSource(style, Sizes(selection=LINES)).load(Split.SELECTION)
    x = model_inputs(samples, MODEL.preprocessing)["x"]
    outputs = [text for start in range(0, LINES, 8) for text in network(x[start : start + 8])]
    row = next(line for line in README.splitlines() if line.startswith("| `br` |"))
    exact, characters = (float(cell) for cell in re.findall(r"([\d.]+) %", row))
    # Three standard errors of so few lines.
    tolerance = 300 * (exact / 100 * (1 - exact / 100) / LINES) ** 0.5
    assert np.mean([text == target for text, target in zip(outputs, samples.targets, strict=True)]) * 100 == (
        pytest.approx(exact, abs=tolerance)
    )
    assert character_accuracies(outputs, samples.targets).mean() * 100 == pytest.approx(characters, abs=tolerance / 3)


def test_metrics_agree_on_what_is_right():
    perfect = np.eye(6625, dtype=np.float32)[[1, 0, 1, 6624]][None]
    text = read({"y": perfect})[0]
    scores = {name: metric({"y": perfect}, np.array([text])) for name, metric in MODEL.metrics.items()}
    assert all(score.tolist() == [1] for score in scores.values())
    scores = {name: metric({"y": perfect}, np.array([f"{text}?"])) for name, metric in MODEL.metrics.items()}
    assert scores["exact_match"].tolist() == scores["accuracy"].tolist() == [0]
    assert 0 < scores["character_accuracy"][0] < 1


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_line_filled_up_to_its_bucket_reads_as_it_does_by_itself(name, lines, engine):
    loaded = engine(name)
    outputs = [loaded.run({"x": line.x}) for line in lines]
    buckets = [next(bucket for bucket in (160, 320, 640) if bucket >= line.x.shape[3]) for line in lines]
    assert set(buckets) == {160, 320}
    assert [output[MODEL.outputs[0]].shape[1] for output in outputs] == [bucket // 8 for bucket in buckets]
    # Attention spans the padding too, so that the answer of a hard line may tip; the README says how many do.
    assert sum(line.alone == read(output)[0] for line, output in zip(lines, outputs, strict=True)) >= 23
    assert sum(line.alone == line.text for line in lines) >= 20


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_line_one_pixel_wider_than_the_largest_bucket_is_refused(name, engine):
    loaded = engine(name)
    widest = partial(np.zeros, dtype=np.float32)
    assert loaded.run({"x": widest((1, 3, 48, 640))})[MODEL.outputs[0]].shape == (1, 80, 6625)
    with pytest.raises(ShapeOutsideProfile, match="found 641"):
        loaded.run({"x": widest((1, 3, 48, 641))})


def test_the_readme_knows_the_frozen_parameters_and_says_that_they_are_simulated():
    assert STYLE_DIGEST in README
    assert "simulated" in README.lower()
    for region, style in STYLES.items():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{region}` |"))
        for value in (style.width, *style.size, *style.fonts):
            assert str(value) in row

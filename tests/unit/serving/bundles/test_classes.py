"""Bundles with engines of several classes of arithmetic, and those from before there were classes."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from regiolect.attest import attest
from regiolect.audit.evidence import judged_class, require_class
from regiolect.bundle.decisions import verify_decisions
from regiolect.bundle.manifest import read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.bundle.write import write_bundle
from regiolect.contracts import Arithmetic, EngineArtifact, Precision, TensorRange
from regiolect.engines import catalog
from regiolect.errors import ClassNotTold, NotRunnableHere, StatementMismatch
from regiolect.graphs import protos, quantize
from regiolect.integrity import canonical_json
from regiolect.precision import Recipe
from regiolect.serving import ServedModel, load_bundle
from regiolect.signing.envelope import Signing
from regiolect.signing.keyring import Keyring
from regiolect.signing.trust import load_trust
from tests.tiny_graph import dense

GOLDEN = Path(__file__).parents[3] / "golden"
SATURATING, VNNI, AMX = Arithmetic.SATURATING, Arithmetic.VNNI, Arithmetic.AMX


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Arithmetic | None], None]:
    """Makes this machine one of a class."""
    return lambda arithmetic: monkeypatch.setattr(catalog.backend("onnxruntime"), "arithmetic", lambda: arithmetic)


@pytest.fixture
def bundles(bundles):
    """Bundles of a region that takes INT8."""
    return dataclasses.replace(bundles, policy=bundles.policy.model_copy(update={"precision": Precision.INT8}))


@pytest.fixture
def of_class(bundles, weights, probes) -> Callable[..., EngineArtifact]:
    """An engine of target `cpu` for a class. What `precision` says binds it; the graph is a float one all the same."""
    bundles.selftests["cpu"] = probes(0.0)

    def made(arithmetic: Arithmetic, precision: Precision = Precision.INT8) -> EngineArtifact:
        wanted = {"arithmetic": arithmetic, "precision": precision}
        request = bundles.request("eu", "cpu", "onnxruntime", dense(weights)).model_copy(update=wanted)
        engine = catalog.backend("onnxruntime").build(request, bundles.store)
        return engine.model_copy(update={"fingerprint": {**engine.fingerprint, "cpu": "another of that class"}})

    return made


def load(folder: Path, trust: Path | None = None) -> ServedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_bundle(folder, None if trust is None else load_trust(trust))


def slot(model: ServedModel) -> str:
    return model.engine.artifact.request.slot


def test_one_bundle_holds_an_engine_for_each_class_and_each_host_gets_its_own(
    bundles, of_class, on, images, expected, tmp_path
) -> None:
    folder = tmp_path / "bundle"
    bundles.write(folder, of_class(VNNI), of_class(AMX))
    assert sorted(path.name for path in (folder / "engines").iterdir()) == ["cpu--amx", "cpu--vnni"]
    for arithmetic in (AMX, VNNI):
        on(arithmetic)
        model = load(folder)
        assert (slot(model), model.target) == (f"cpu--{arithmetic}", "cpu")
        np.testing.assert_allclose(model.predict(images)["logits"], expected, rtol=1e-4, atol=1e-4)


def test_a_class_without_an_engine_is_refused_by_name_with_the_way_to_add_it(bundles, of_class, on, tmp_path) -> None:
    bundles.write(tmp_path / "bundle", of_class(VNNI), of_class(AMX))
    on(SATURATING)
    with pytest.raises(NotRunnableHere) as caught:
        load(tmp_path / "bundle")
    assert "cpu (vnni): arithmetic vnni needed, saturating here" in caught.value.found
    assert "which adds an engine of class saturating: regiolect run MODEL --regions eu --targets cpu" in (
        caught.value.remedy
    )
    on(None)
    with pytest.raises(NotRunnableHere, match="arithmetic vnni needed, unknown here"):
        load(tmp_path / "bundle")


def test_a_host_of_another_class_gets_the_wider_engine(bundles, of_class, built, on, tmp_path) -> None:
    """The one that belongs to no class before one that stands in for another class's INT8 engine."""
    stand_in = of_class(AMX, Precision.FP32)
    bundles.write(tmp_path / "bundle", stand_in, of_class(VNNI), built("portable", "onnxruntime", cpu="any"))
    for arithmetic, wanted in ((SATURATING, "portable"), (VNNI, "cpu--vnni"), (AMX, "cpu--amx")):
        on(arithmetic)
        assert slot(load(tmp_path / "bundle")) == wanted
    bundles.write(tmp_path / "bundle", stand_in, of_class(VNNI))
    on(SATURATING)
    with pytest.warns(UserWarning, match="arithmetic amx there, saturating here"):
        assert load_bundle(tmp_path / "bundle").engine.artifact.request.precision is Precision.FP32


def test_int8_of_a_class_that_was_signed_without_a_self_test_is_not_served(bundles, of_class, on, tmp_path) -> None:
    bundles.selftests.clear()
    bundles.write(tmp_path / "bundle", of_class(VNNI), of_class(AMX, Precision.FP32))
    on(VNNI)
    with pytest.warns(UserWarning, match="cpu \\(vnni\\).*none in its evaluation"):
        assert slot(load_bundle(tmp_path / "bundle")) == "cpu--amx"
    bundles.write(tmp_path / "bundle", of_class(VNNI))
    with pytest.raises(NotRunnableHere, match="a self-test of the INT8 engine for cpu, judged in class vnni"):
        load(tmp_path / "bundle")


def test_int8_that_was_signed_as_something_wider_is_loaded_nowhere(bundles, tmp_path) -> None:
    """A model that arrived quantized was once built as FP32 with its Q/DQ nodes: no class binds that engine."""
    graph = dense(np.full((16, 3), 1 / 16, np.float32))
    recipe = Recipe(activation="uint8", operators=("MatMul",))
    plain = protos.normalized(onnx.load_from_string(graph))
    ranges = {"flat": TensorRange(threshold=2.0, minimum=-2.0, maximum=2.0)}
    packed = protos.to_bytes(quantize.quantized(plain, recipe, ranges))
    backend = catalog.backend("onnxruntime")
    engine = backend.build(bundles.request("eu", "cpu", "onnxruntime", packed), bundles.store)
    proof = attest(backend, engine, bundles.store)
    # As a gate from before it asked for this approved it.
    approved = bundles.approved(engine).model_copy(update={"attestation": proof})
    policy, signing = bundles.policy_of("eu").canonical(), Signing(Keyring.of_environment().signer())
    write_bundle(tmp_path / "bundle", bundles.exported(), "eu", "Europe", policy, [approved], bundles.store, signing)
    with pytest.raises(NotRunnableHere, match=r"no INT8 kernels in the FP32 engine for cpu.*found INT8 \(\w+\) 1"):
        load(tmp_path / "bundle")


def test_the_class_is_signed(bundles, of_class, tmp_path) -> None:
    folder = tmp_path / "bundle"
    manifest = bundles.write(folder, of_class(VNNI))
    trust = Keyring.of_environment().load_trust()
    (opened,) = verify_decisions(folder, manifest, trust).values()
    assert opened.statement["predicate"]["arithmetic"] == "vnni"
    text = (folder / "manifest.json").read_text().replace('"vnni"', '"amx"').replace("cpu--vnni", "cpu--amx")
    (folder / "manifest.json").write_text(text)
    for kind in ("engines", "decisions", "results", "attestations", "selftest"):
        for path in (folder / kind).iterdir():
            path.rename(path.with_name(path.name.replace("vnni", "amx")))
    moved = read_bundle(folder)
    assert canonical_json(moved).decode() == text
    verify_bundle(folder, moved)
    with pytest.raises(StatementMismatch):
        load(folder)


# ------------------------------------------------------------------------- signed before there were classes


@pytest.fixture
def older(tmp_path: Path) -> Callable[[str], Path]:
    def copied(name: str) -> Path:
        return Path(shutil.copytree(GOLDEN / name, tmp_path / name))

    return copied


TRUST = GOLDEN / "bundle_v2_before_classes_trust.json"


def test_older_int8_is_loaded_in_the_class_that_its_instruction_sets_tell_and_in_no_other(older, on) -> None:
    folder = older("bundle_v2_int8_flags")
    on(VNNI)
    answers = load(folder, TRUST).predict(np.full((2, 1, 4, 4), 255, np.uint8))["logits"]
    assert answers.shape == (2, 3)
    for other in (SATURATING, AMX):
        on(other)
        with pytest.raises(NotRunnableHere, match=f"arithmetic vnni needed, {other} here"):
            load(folder, TRUST)
    (approved,) = read_bundle(folder).engines
    assert (judged_class(approved), approved.engine.request.arithmetic) == (VNNI, None), "the audit tells both"
    require_class(approved)


@pytest.mark.parametrize("here", Arithmetic)
def test_older_int8_that_tells_no_instruction_sets_is_refused_everywhere(older, on, here: Arithmetic) -> None:
    folder = older("bundle_v2_int8_no_flags")
    on(here)
    with pytest.raises(NotRunnableHere, match=f"arithmetic unknown needed, {here} here") as caught:
        load(folder, TRUST)
    assert "release it again, for its class of arithmetic was not kept" in caught.value.remedy
    (approved,) = read_bundle(folder).engines
    with pytest.raises(ClassNotTold, match="release the region again"):
        require_class(approved)


@pytest.mark.parametrize("here", [*Arithmetic, None])
def test_older_wider_engines_are_loaded_everywhere(older, on, here: Arithmetic | None) -> None:
    folder = older("bundle_v2_fp16")
    on(here)
    assert load(folder, TRUST).engine.artifact.request.precision is Precision.FP16
    (approved,) = read_bundle(folder).engines
    require_class(approved)
    assert judged_class(approved) is None

"""One bundle holds engines for several targets, and each host gets the one that is right for it, or is told why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regiolect.bundle.manifest import MANIFEST
from regiolect.contracts import Misfit, Target
from regiolect.engines import catalog
from regiolect.errors import (
    DeviceLost,
    ForeignRegion,
    IntegrityError,
    NotRunnableHere,
    StatementMismatch,
    TruncatedFile,
)
from regiolect.integrity import canonical_json
from regiolect.serving import ServedModel, _load_pyfunc, load_bundle
from tests.elsewhere import CPU, ISA
from tests.flows.tiny_models import GPU

RTX = GPU["backend"]
ELSEWHERE = {"cpu": CPU, "isa": ISA}


@pytest.fixture(autouse=True)
def _no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGIOLECT_REGION", raising=False)


def without_warnings(folder: Path) -> ServedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_bundle(folder)


def test_each_host_gets_the_engine_that_was_measured_on_one_like_it(bundles, built, images, expected, tmp_path) -> None:
    """The first runs here too, but was measured on another processor; the second needs a GPU; the third is right."""
    bundles.write(
        tmp_path / "bundle",
        built("cpu-opteron", "openvino", **ELSEWHERE),
        built("gpu-rtx", RTX),
        built("cpu-x86-ort", "onnxruntime"),
        built("cpu-x86", "openvino"),
    )
    model = without_warnings(tmp_path / "bundle")
    assert model.target == "cpu-x86-ort"
    np.testing.assert_allclose(model.predict(images)["logits"], expected, rtol=1e-4, atol=1e-4)


def test_where_none_was_measured_the_bundles_order_counts_and_both_sides_are_told(bundles, built, tmp_path) -> None:
    bundles.write(
        tmp_path / "bundle",
        built("gpu-rtx", RTX),
        built("cpu-opteron", "openvino", **ELSEWHERE),
        built("cpu-old", "onnxruntime", version="1.2.3"),
    )
    with pytest.warns(UserWarning, match="tiny-eu for cpu-opteron was measured and approved on another host") as told:
        assert load_bundle(tmp_path / "bundle").target == "cpu-opteron"
    assert f"cpu {CPU} there, " in str(told[0].message)
    assert f"isa {ISA} there, " in str(told[0].message)


def test_what_fits_and_does_not_load_gives_way_to_the_next(bundles, built, tmp_path) -> None:
    here = dict(catalog.backend("onnxruntime").fingerprint())
    broken = bundles.artifact("eu", target="broken", backend="onnxruntime", content=b"no engine at all").model_copy(
        update={"fingerprint": here, "backend_version": here["version"]}
    )
    bundles.write(tmp_path / "bundle", broken, built("cpu-old", "onnxruntime", version="1.2.3"))
    with pytest.warns(UserWarning, match="cpu-old") as told:
        assert load_bundle(tmp_path / "bundle").target == "cpu-old"
    assert any("for cpu-old in place of another: broken: fits, but did not load" in str(each.message) for each in told)
    bundles.write(tmp_path / "none", broken, built("gpu-rtx", RTX))
    with pytest.raises(NotRunnableHere) as caught:
        load_bundle(tmp_path / "none")
    assert "broken: fits, but did not load: expected an engine that onnxruntime" in caught.value.found
    assert "gpu-rtx: a device of gpu-rtx needed, " in caught.value.found
    assert "build it again with --force" in caught.value.remedy
    assert "gpu-rtx: load it on a machine of target gpu-rtx" in caught.value.remedy


def test_a_backend_that_this_version_does_not_know_is_passed_over(bundles, built, tmp_path) -> None:
    engine = built("later", "onnxruntime")
    later = engine.model_copy(
        update={"request": engine.request.model_copy(update={"target": Target(name="later", backend="quantum")})}
    )
    bundles.write(tmp_path / "bundle", later, built("cpu-x86", "openvino"))
    assert without_warnings(tmp_path / "bundle").target == "cpu-x86"
    bundles.write(tmp_path / "none", later)
    with pytest.raises(NotRunnableHere, match=r"backend quantum needed, Regiolect \S+ knows openvino") as caught:
        load_bundle(tmp_path / "none")
    assert "install the version of Regiolect that released it" in caught.value.remedy


@pytest.mark.parametrize(
    ("what", "engine", "host"),
    [
        ("compute capability", "8.9", "7.5"),
        ("flavour", "tensorrt", "rtx"),
        ("driver", "580.65.06", "535.1"),
        ("gpu", "NVIDIA L4", "Tesla T4"),
    ],
)
def test_an_engine_for_another_device_is_refused_before_its_library_is_asked(
    bundles, built, tmp_path, monkeypatch: pytest.MonkeyPatch, what: str, engine: str, host: str
) -> None:
    """The plan is real; what the host is, is told by the test, for no such device is here."""
    backend = catalog.backend(RTX)
    differs = Misfit(what=what, engine=engine, host=host, blocks=True)
    monkeypatch.setattr(backend, "misfits", lambda artifact: (differs,))
    monkeypatch.setattr(backend, "_load", lambda *given: pytest.fail("it was deserialized"))
    bundles.write(tmp_path / "bundle", built("gpu-rtx", RTX))
    with pytest.raises(NotRunnableHere) as caught:
        load_bundle(tmp_path / "bundle")
    assert caught.value.found == f"gpu-rtx: {what} {engine} needed, {host} here"
    assert "pool gpu-rtx would build it: prefect worker start --pool gpu-rtx" in caught.value.remedy
    assert "--regions eu --targets gpu-rtx" in caught.value.remedy


def test_a_device_that_does_not_answer_is_passed_over_and_told(
    bundles, built, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(artifact: object) -> tuple[Misfit, ...]:
        raise DeviceLost("an NVIDIA GPU that answers its driver", "GPU is lost", "look at `nvidia-smi`")

    monkeypatch.setattr(catalog.backend(RTX), "misfits", lost)
    bundles.write(tmp_path / "bundle", built("gpu-rtx", RTX), built("cpu-x86", "openvino"))
    with pytest.warns(
        UserWarning, match=r"tiny-eu .* cpu-x86 in place of another: .*GPU is lost; look at `nvidia-smi`"
    ):
        assert load_bundle(tmp_path / "bundle").target == "cpu-x86"
    bundles.write(tmp_path / "preferred", built("cpu-x86", "openvino"), built("gpu-rtx", RTX))
    assert without_warnings(tmp_path / "preferred").target == "cpu-x86"
    bundles.write(tmp_path / "none", built("gpu-rtx", RTX))
    with pytest.raises(NotRunnableHere, match=r"GPU is lost.*look at `nvidia-smi`"):
        load_bundle(tmp_path / "none")


def test_no_library_of_an_engine_that_does_not_fit_is_imported(bundles, built, tmp_path) -> None:
    bundles.write(tmp_path / "bundle", built("gpu-rtx", RTX), built("cpu-x86", "openvino"))
    script = (
        "import sys; from pathlib import Path; from regiolect.serving import load_bundle;"
        "print(load_bundle(Path(sys.argv[1])).target);"
        "print(sorted({'onnxruntime', 'openvino', 'tensorrt', 'tensorrt_rtx', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "bundle")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["cpu-x86", "['openvino']"]


# ------------------------------------------------------------------------------------------------------- regions


def test_an_engine_of_another_region_is_refused_by_name_before_its_bytes_are_read(
    bundles, built, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.write(tmp_path / "bundle", built("cpu-x86", "openvino"))
    monkeypatch.setenv("REGIOLECT_REGION", "na")
    (tmp_path / "bundle/engines/cpu-x86/engine.bin").write_bytes(b"whatever")
    with pytest.raises(ForeignRegion) as caught:
        load_bundle(tmp_path / "bundle")
    assert "region 'na'" in caught.value.expected
    assert "region 'eu'" in caught.value.found
    assert "models:/tiny-na@champion" in caught.value.remedy


@pytest.mark.parametrize("region", ["eu", ""])
def test_the_own_region_loads_and_so_does_any_where_none_is_named(
    bundles, built, tmp_path, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    monkeypatch.setenv("REGIOLECT_REGION", region)
    bundles.write(tmp_path / "bundle", built("cpu-x86", "openvino"))
    assert load_bundle(tmp_path / "bundle").target == "cpu-x86"


def test_through_mlflow_the_region_is_asked_before_the_registry(
    bundles, built, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIOLECT_REGION", "na")
    bundles.write(tmp_path / "model" / "data" / "bundle", built("cpu-x86", "openvino"))
    (tmp_path / "model" / "registered_model_meta").write_text("model_name: tiny-eu\nmodel_version: '3'\n")
    with pytest.raises(ForeignRegion):
        _load_pyfunc(str(tmp_path / "model" / "data" / "bundle"))


def test_a_region_that_was_rewritten_to_get_past_is_refused_by_the_signature(
    bundles, built, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.write(tmp_path / "bundle", built("cpu-x86", "openvino", region="na"), region="na")
    monkeypatch.setenv("REGIOLECT_REGION", "eu")
    document: dict[str, Any] = json.loads((tmp_path / "bundle" / MANIFEST).read_text())
    document["region"] = document["engines"][0]["engine"]["request"]["region"] = "eu"
    (tmp_path / "bundle" / MANIFEST).write_bytes(canonical_json(document))
    with pytest.raises(StatementMismatch):
        load_bundle(tmp_path / "bundle")


# ------------------------------------------------------------------------------------------------ damaged bytes


@pytest.mark.parametrize("file", ["engines/gpu-rtx/engine.plan", "engines/cpu-x86/engine.bin"])
@pytest.mark.parametrize("left", [0, -1])
def test_a_truncated_engine_is_named_and_nothing_is_loaded(
    bundles, built, tmp_path, monkeypatch: pytest.MonkeyPatch, file: str, left: int
) -> None:
    """Be it the engine that would be loaded or one that this host cannot run."""
    for name in ("openvino", RTX):
        monkeypatch.setattr(catalog.backend(name), "_load", lambda *given: pytest.fail("it was deserialized"))
    bundles.write(tmp_path / "bundle", built("gpu-rtx", RTX), built("cpu-x86", "openvino"))
    path = tmp_path / "bundle" / file
    size = path.stat().st_size
    os.truncate(path, size + left if left else 0)
    with pytest.raises(TruncatedFile, match=rf"{file} with {size} bytes.*found {size + left if left else 0} bytes"):
        load_bundle(tmp_path / "bundle")


def test_bytes_of_the_right_length_are_not_called_truncated(bundles, built, tmp_path) -> None:
    bundles.write(tmp_path / "bundle", built("cpu-x86", "openvino"))
    path = tmp_path / "bundle/engines/cpu-x86/engine.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError) as caught:
        load_bundle(tmp_path / "bundle")
    assert type(caught.value) is IntegrityError

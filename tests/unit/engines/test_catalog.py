from __future__ import annotations

import subprocess
import sys

import pytest

from regiolect.contracts import Precision
from regiolect.engines.catalog import backend, names
from regiolect.errors import UnknownBackend


def test_every_listed_backend_is_found_under_its_own_name() -> None:
    assert names()
    for name in names():
        assert backend(name).name == name


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UnknownBackend, match=r"openvino, onnxruntime, .*tensorrt, tensorrt-rtx.*did you mean 'openvino'"
    ):
        backend("openvno")


def test_planning_needs_no_vendors_library() -> None:
    code = """
import sys
from regiolect.contracts import Precision
from regiolect.engines.catalog import backend, names
from regiolect.errors import BackendUnavailable
for name in names():
    try:
        backend(name).fingerprint(), backend(name).obstacle() is None, backend(name).arithmetic()
        [backend(name).recipe_here(p) for p in Precision]
    except BackendUnavailable:
        pass
heavy = {"openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "cuda", "onnx", "torch", "mlflow", "prefect"}
loaded = heavy & set(sys.modules)
sys.exit(", ".join(loaded) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_fingerprints_name_the_machine_only_where_it_matters() -> None:
    assert {"cpu", "isa", "version"} <= set(backend("openvino").fingerprint())
    plan = backend("tensorrt-rtx").fingerprint()
    assert "cpu" not in plan
    assert plan["flavour"] == "rtx"
    assert "SM75" in plan["gpus INT8"]
    assert not {"gpu", "driver"} & set(plan)


def test_float_recipes_quantize_nothing() -> None:
    for name in names():
        for precision in (Precision.FP32, Precision.FP16):
            recipe = backend(name).recipe_here(precision)
            assert recipe.activation is None
            assert recipe.remainder is precision
        assert backend(name).recipe_here(Precision.INT8).activation is not None


def test_what_runs_on_a_gpu_has_no_arithmetic_class() -> None:
    assert [name for name in names() if backend(name).arithmetic() is None] == [
        "onnxruntime-cuda",
        "tensorrt",
        "tensorrt-rtx",
    ]

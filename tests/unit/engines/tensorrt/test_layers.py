"""Reading the engine inspector. The JSON here is SYNTHETIC, written after its documented form: nothing here has
run a plan. Real answers are read in tests/gpu."""

from __future__ import annotations

import json
from typing import Any

import pytest

from regiolect.contracts import Execution
from regiolect.engines.tensorrt.layers import layers_of
from regiolect.errors import AttestationFailed


def tensor(told: str, name: str = "t", **more: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Location": "Device",
        "Dimensions": [1, 8],
        **({"Format/Datatype": told} if told else {}),
        **more,
    }


def layer(
    kind: str, reads: list[Any], writes: list[Any], kernel: str = "", metadata: str = "", name: str = "layer"
) -> Any:
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": reads,
        "Outputs": writes,
        **({"TacticName": kernel} if kernel else {}),
        "Metadata": metadata,
    }


def told(*layers: Any, eleven: bool = False) -> str:
    bound: dict[str, Any] = (
        {"I/O Tensors": [{"Name": "x", "IOMode": "Input"}, {"Name": "y", "IOMode": "Output"}]}
        if eleven
        else {"Bindings": ["x", "y"]}
    )
    return json.dumps({"Layers": list(layers), **bound})


def precision(*args: Any, **kwargs: Any) -> Execution | None:
    (found,) = layers_of(told(layer(*args, **kwargs)), ["x", "y"])
    return found.precision


FLOAT, HALF = tensor("Row major linear FP32"), tensor("Channel major FP16 format where channel % 8 == 0")
INT8 = tensor("Thirty-two wide channel vectorized row major Int8 format")


@pytest.mark.parametrize("eleven", [False, True])
def test_bindings_of_10_and_io_tensors_of_11_are_both_read(eleven: bool) -> None:
    text = told(
        layer("CaskConvolution", [HALF], [HALF], metadata="[ONNX Layer: c1]\u001e[ONNX Layer: r1]"), eleven=eleven
    )
    (found,) = layers_of(text, ["y", "x"])
    assert (found.kind, found.precision, found.nodes) == ("CaskConvolution", Execution.FP16, ("c1", "r1"))


def test_a_type_of_its_own_beside_the_format_is_read_as_11_writes_it() -> None:
    typed = tensor("", Format="Row major linear", Datatype="Half")
    assert precision("gemm", [typed], [typed]) is Execution.FP16


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Float", Execution.FP32),
        ("Row major linear FP32", Execution.FP32),
        ("Half", Execution.FP16),
        ("Two wide channel vectorized row major FP16 format", Execution.FP16),
        ("BFloat16", Execution.BF16),
        ("Row major linear BF16 format", Execution.BF16),
        ("Int8", Execution.INT8),
        ("Int32", None),
        ("Bool", None),
    ],
)
def test_words_for_types(words: str, expected: Execution | None) -> None:
    assert precision("kgen", [tensor(words)], [tensor(words)]) is expected


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("sm80_xmma_gemm_f32f32_f32f32_f32_tn", Execution.FP32),
        ("sm80_xmma_gemm_tf32f32_tf32f32_f32_tn", Execution.TF32),
        ("sm80_xmma_gemm_bf16f32_bf16f32_f32_tn", Execution.BF16),
        ("sm80_xmma_gemm_f16f16_f16f16_f16_tn", Execution.FP16),
        ("ampere_h16816gemm_128x128", Execution.FP16),
        ("sm80_xmma_gemm_i8i8_i8i32_f32_tn", Execution.INT8),
    ],
)
def test_a_kernel_whose_name_says_more_than_its_tensors_counts_by_its_name(kernel: str, expected: Execution) -> None:
    assert precision("CaskGemmConvolution", [FLOAT], [FLOAT], kernel=kernel) is expected


def test_the_coarsest_counts_and_bf16_never_hides() -> None:
    assert precision("CaskConvolution", [INT8], [HALF]) is Execution.INT8
    assert precision("kgen", [tensor("BFloat16")], [INT8]) is Execution.BF16
    assert precision("kgen", [FLOAT, tensor("Int32")], [FLOAT]) is Execution.FP32


def test_moving_values_counts_only_where_it_rounds_them() -> None:
    assert precision("Reformat", [FLOAT], [FLOAT]) is None
    assert precision("Reformat", [FLOAT], [HALF]) is Execution.FP16
    assert precision("Quantize", [FLOAT], [INT8]) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "no JSON"),
        ("{}", "without a list of layers"),
        (json.dumps({"Layers": ["conv1"], "Bindings": ["x", "y"]}), "by its name alone"),
        (told({"Name": "conv1", "LayerType": "kgen"}), "without Inputs, Outputs"),
        (told(layer("kgen", [tensor("FP4")], [HALF])), "FP4"),
        (told(layer("kgen", [tensor("")], [HALF])), "without a type"),
        (told(layer("kgen", [], [])), "no type of its own"),
        (json.dumps({"Layers": [], "Bindings": ["z"]}), "tensors z instead of x, y"),
        (json.dumps({"Layers": []}), "tensors none instead of x, y"),
    ],
)
def test_an_answer_without_the_detail_is_no_answer(text: str, found: str) -> None:
    with pytest.raises(AttestationFailed) as refused:
        layers_of(text, ["x", "y"])
    assert found in refused.value.found

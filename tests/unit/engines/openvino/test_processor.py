"""OpenVINO's class in a process: the processor's, or what oneDNN is capped to."""

import pytest

from regiolect.contracts import Arithmetic
from regiolect.engines.catalog import backend
from regiolect.engines.openvino.processor import kernels_arithmetic
from regiolect.host.cpu import UNKNOWN

SERVER = "avx2 avx_vnni avx512f avx512_vnni avx512_bf16 amx_int8"
OLDER_SERVER = "avx2 avx512f avx512_vnni"
LAPTOP = "avx2 avx_vnni"


@pytest.mark.parametrize(
    ("isa", "cap", "expected"),
    [
        (SERVER, "AVX512_CORE_AMX", Arithmetic.AMX),
        (SERVER, "DEFAULT", Arithmetic.AMX),
        (SERVER, "AVX512_CORE_FP16", Arithmetic.VNNI),
        (SERVER, "AVX512_CORE_VNNI", Arithmetic.VNNI),
        (SERVER, "AVX2_VNNI", Arithmetic.VNNI),
        (SERVER, "AVX512_CORE", Arithmetic.SATURATING),
        (SERVER, "avx2", Arithmetic.SATURATING),
        (OLDER_SERVER, "AVX512_CORE_BF16", Arithmetic.VNNI),
        (OLDER_SERVER, "AVX2_VNNI", Arithmetic.SATURATING),
        (LAPTOP, "AVX512_CORE_VNNI", Arithmetic.SATURATING),
        (LAPTOP, "AVX2_VNNI", Arithmetic.VNNI),
        ("avx2", "AVX512_CORE_AMX", Arithmetic.SATURATING),
        (UNKNOWN, "AVX2", None),
    ],
)
def test_a_cap_lowers_the_class_and_never_raises_it(isa: str, cap: str, expected: Arithmetic | None) -> None:
    processor = {"machine": "x86_64", "isa": isa}
    assert kernels_arithmetic(processor, {"ONEDNN_MAX_CPU_ISA": cap}) == expected
    assert kernels_arithmetic(processor, {"DNNL_MAX_CPU_ISA": cap}) == expected


def test_the_newer_name_counts_and_an_empty_one_does_not() -> None:
    processor = {"machine": "x86_64", "isa": SERVER}
    both = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI", "DNNL_MAX_CPU_ISA": "AVX2"}
    assert kernels_arithmetic(processor, both) == Arithmetic.VNNI
    assert kernels_arithmetic(processor, both | {"ONEDNN_MAX_CPU_ISA": ""}) == Arithmetic.SATURATING


def test_the_backend_goes_by_the_environment_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert backend("openvino").arithmetic() in (Arithmetic.SATURATING, Arithmetic.ARM)

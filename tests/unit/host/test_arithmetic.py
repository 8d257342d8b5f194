"""Which processors share an arithmetic."""

import pytest

from regiolect.contracts import Arithmetic
from regiolect.host.arithmetic import arithmetic_of
from regiolect.host.cpu import UNKNOWN


@pytest.mark.parametrize(
    ("machine", "isa", "expected"),
    [
        ("x86_64", "baseline", Arithmetic.SATURATING),
        ("x86_64", "avx2", Arithmetic.SATURATING),
        ("x86_64", "avx2 avx512f", Arithmetic.SATURATING),
        ("AMD64", "avx2 avx_vnni", Arithmetic.VNNI),
        ("x86_64", "avx2 avx512f avx512_vnni avx512_bf16", Arithmetic.VNNI),
        ("x86_64", "avx2 avx_vnni avx512f avx512_vnni amx_int8 amx_bf16", Arithmetic.AMX),
        ("aarch64", "baseline", Arithmetic.ARM),
        ("arm64", UNKNOWN, Arithmetic.ARM),
        ("x86_64", UNKNOWN, None),
        ("riscv64", "baseline", None),
    ],
)
def test_the_class_follows_from_what_a_fingerprint_tells(machine, isa, expected):
    assert arithmetic_of({"machine": machine, "isa": isa}) == expected


def test_a_fingerprint_without_flags_tells_no_class():
    assert arithmetic_of({"machine": "x86_64"}) is None
    assert arithmetic_of({"gpu": "NVIDIA L4"}) is None

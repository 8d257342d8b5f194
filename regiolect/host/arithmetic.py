"""Which arithmetic class a processor belongs to, told by its fingerprint."""

from __future__ import annotations

from collections.abc import Mapping

from regiolect.contracts import Arithmetic
from regiolect.host.cpu import UNKNOWN, cpu_fingerprint

_X86 = frozenset({"x86_64", "amd64"})
_ARM = frozenset({"aarch64", "arm64"})
_IN_INT32 = frozenset({Arithmetic.VNNI, Arithmetic.AMX, Arithmetic.ARM})
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})


def arithmetic_of(fingerprint: Mapping[str, str]) -> Arithmetic | None:
    """The class of the processor that a fingerprint tells of, by its `machine` and `isa`; None if it does not tell.

    Args:
        fingerprint: as `cpu.cpu_fingerprint`, or an engine's, which has the same entries where it depends on them.
    """
    machine, isa = fingerprint.get("machine", UNKNOWN).lower(), fingerprint.get("isa", UNKNOWN)
    if machine in _ARM:
        return Arithmetic.ARM
    if machine not in _X86 or isa == UNKNOWN:
        return None
    flags = set(isa.split())
    if "amx_int8" in flags:
        return Arithmetic.AMX
    return Arithmetic.VNNI if flags & _VNNI else Arithmetic.SATURATING


def arithmetic_here() -> Arithmetic | None:
    """The class of this machine's processor; None if it does not tell."""
    return arithmetic_of(cpu_fingerprint())


def sums_in_int32(arithmetic: Arithmetic | None) -> bool:
    """Whether sums of 8 x 8 bit products are exact in that class; not to be relied on where it is not known."""
    return arithmetic in _IN_INT32

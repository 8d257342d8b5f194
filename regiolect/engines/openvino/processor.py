"""Which instruction sets OpenVINO's kernels may use in a process. Imports nothing of OpenVINO's."""

from __future__ import annotations

from collections.abc import Mapping

from regiolect.contracts import Arithmetic
from regiolect.host.arithmetic import arithmetic_of
from regiolect.host.cpu import UNKNOWN

# oneDNN's switch, under its name of today and its older one; the first that is set counts, in any case.
CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_SUMMING = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})
# What each value leaves of the instruction sets that sum 8 x 8 bit products in int32. Another value caps nothing.
_LEFT: dict[str, frozenset[str]] = {
    **dict.fromkeys(("sse41", "avx", "avx2", "avx512_core"), frozenset()),
    **dict.fromkeys(("avx2_vnni", "avx2_vnni_2"), frozenset({"avx_vnni"})),
    **dict.fromkeys(("avx512_core_vnni", "avx512_core_bf16"), frozenset({"avx512_vnni"})),
    **dict.fromkeys(("avx512_core_fp16", "avx10_1_512"), frozenset({"avx_vnni", "avx512_vnni"})),
}


def kernels_arithmetic(processor: Mapping[str, str], environment: Mapping[str, str]) -> Arithmetic | None:
    """The class of OpenVINO's kernels: the processor's, or a lower one that oneDNN is capped to; None if not told.

    Args:
        processor: as `cpu.cpu_fingerprint`.
        environment: of the process, as it was when OpenVINO compiled its first model: oneDNN reads it then.
    """
    isa = processor.get("isa", UNKNOWN)
    cap = next((value.lower() for name in CAPS if (value := environment.get(name))), "")
    if cap not in _LEFT or isa == UNKNOWN:
        return arithmetic_of(processor)
    left = [flag for flag in isa.split() if flag not in _SUMMING - _LEFT[cap]]
    return arithmetic_of({**processor, "isa": " ".join(left)})

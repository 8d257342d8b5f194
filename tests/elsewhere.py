"""A processor that no machine has: what tests take for another host than the one on which they run."""

from __future__ import annotations

from regiolect.contracts import Arithmetic
from regiolect.host.arithmetic import arithmetic_here

CPU = "Processor of No Machine"
# No processor has either alone, and the arithmetic is of another class than that of the machine that runs the tests.
ISA = "avx_vnni" if arithmetic_here() is not Arithmetic.VNNI else "amx_int8"

"""Of which backends the contract is asked here: those of the catalog, those of other distributions included."""

from __future__ import annotations

from regiolect.contracts import Precision
from regiolect.engines.catalog import backend, names
from regiolect.engines.listed import OWN
from regiolect.errors import BackendUnavailable


def installed(name: str) -> bool:
    try:
        return bool(backend(name).version())
    except BackendUnavailable:
        return False


INSTALLED = [name for name in names() if installed(name)]
RUNNABLE = [name for name in INSTALLED if backend(name).obstacle() is None]
BUILDS = [(name, precision) for name in INSTALLED for precision in backend(name).recipes]
RUNS = [(name, precision) for name in RUNNABLE for precision in backend(name).recipes]
# Of those that need a device of their own more is asked in tests/gpu, but for what other distributions bring.
ASKED_ALL = [name for name in RUNNABLE if name not in OWN or backend(name).anywhere]
ALL_RUNS = [(name, precision) for name, precision in RUNS if name in ASKED_ALL]
# Its builder measures kernels, and takes another one another time.
REPRODUCIBLE = [(name, precision) for name, precision in RUNS if not name.startswith("tensorrt")]


def having(precision: Precision, *of: str) -> list[str]:
    """Those of some backends that have a precision."""
    return [name for name in of if precision in backend(name).recipes]

"""What a consumer runs. Needs the installed package and one engine runtime; no orchestrator, and no MLflow either.

MLflow finds this package as the loader module of every version, and calls `_load_pyfunc`.
"""

from __future__ import annotations

from regiolect.bundle.requirements import requirements
from regiolect.serving.adaptive import AdaptiveModel, Statistics
from regiolect.serving.bundles import ServedModel, _load_pyfunc, load_bundle
from regiolect.serving.opening import load_adaptive

__all__ = [
    "AdaptiveModel",
    "ServedModel",
    "Statistics",
    "_load_pyfunc",
    "load_adaptive",
    "load_bundle",
    "requirements",
]

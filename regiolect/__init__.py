"""Regiolect: one trained model in, one approved engine per region out.

    import regiolect

    print(regiolect.plan("shop.models:MODEL").summary())
    result = regiolect.run("shop.models:MODEL", regions=["eu"])
    engine = regiolect.load("shop-eu@champion")
    answers = engine.predict(images)

`plan` and `run` are the commands of these names. Nothing else is imported before one of them is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regiolect.orchestrator import plan, run
    from regiolect.serving.registered import load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "plan", "run"]

_WHERE = {"load": "regiolect.serving.registered", "plan": "regiolect.orchestrator", "run": "regiolect.orchestrator"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

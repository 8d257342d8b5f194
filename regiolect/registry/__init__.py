"""The model registry: everything of MLflow that Regiolect uses, behind one class. The only importer of mlflow.

A registered model is one (model, region), named `<model>-<region>`. Its versions are bundles, found again by their
digest. Three aliases: `champion` is what consumers load, `previous` the champion before it, `challenger` a version
that is registered and not (yet) champion.

    registry.py     Registry, what the rest of Regiolect uses
    connection.py   an MLflow store, opened by one process at a time, its errors named
    versions.py     one version per bundle, whoever else registers it
    aliases.py      the three aliases, and the order in which they move
    promotions.py   the signed statement that a version was made champion, without which it is none
    live.py         what can be loaded, for an audit
    listed.py       every version, for people
    consumer.py     the question whether it was, from the process that loads it

MLflow's fluent interface keeps global state that threads would share, so only MlflowClient with explicit URIs is used.
"""

from __future__ import annotations

from regiolect.registry.aliases import CHALLENGER, CHAMPION, PREVIOUS
from regiolect.registry.beside import require_obedient, require_signed
from regiolect.registry.live import LiveVersion
from regiolect.registry.registry import Exclusively, Registry

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "Exclusively",
    "LiveVersion",
    "Registry",
    "require_obedient",
    "require_signed",
]

"""Imported by the fork server alone, before whatever else it preloads: its children leave the parent's script alone.

`multiprocessing` has a child run the parent's script once more, for the functions and classes that are defined in it.
What runs in our children is defined in modules: a script that starts a release needs no `__main__` guard, and no child
imports the command line or the orchestrator.
"""

from __future__ import annotations

from multiprocessing import spawn

from regiolect.host.garbage import look_seldom

look_seldom()


def _leave_alone(script: str) -> None:
    """In place of running it."""


for name in ("_fixup_main_from_name", "_fixup_main_from_path"):
    setattr(spawn, name, _leave_alone)

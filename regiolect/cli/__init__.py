"""The command line: one file a command group. `main` is the entry point."""

from __future__ import annotations

from regiolect.cli.app import main

__all__ = ["main"]

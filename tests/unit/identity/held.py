"""A function to hold things by."""

from __future__ import annotations


def load(*given: object) -> None: ...

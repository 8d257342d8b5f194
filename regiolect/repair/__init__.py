"""Repair: which graph a region's engine is built from, chosen on its selection set alone, every step told."""

from regiolect.repair.region import choose_graph

__all__ = ["choose_graph"]

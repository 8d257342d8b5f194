"""Regiolect: one trained model in, one approved engine per region out."""

__version__ = "0.1.0"

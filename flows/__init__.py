"""Sequence only: which stage follows which, and what runs side by side."""

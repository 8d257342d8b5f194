"""Measured ratios against peers. Never a timed test."""

"""Engines: one folder a backend, one contract for all of them in `base`, their list in `listed`."""

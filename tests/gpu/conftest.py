"""What the contract tests build engines from."""

from __future__ import annotations

from tests.contract.conftest import reference, request_for, samples, store, write_graph

__all__ = ["reference", "request_for", "samples", "store", "write_graph"]

"""The network of tests/contract, for engines that run on a GPU."""

from __future__ import annotations

from tests.contract.conftest import reference, request_for, samples, store, write_graph

__all__ = ["reference", "request_for", "samples", "store", "write_graph"]

"""What a graph and a built engine say of their precision, node by node and layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from regiolect.contracts.base import Contract, Digest, Execution, Precision

Strength = Literal["kernels", "graph"]
"""How strongly an engine's word binds it. kernels: the runtime names the type in which each kernel computes. graph: it
names each kernel of its optimised graph and the types of the tensors that go in and out, not how a kernel computes."""


class GraphNode(Contract):
    """A compute node of a typed graph."""

    name: str
    kind: str = Field(description="ONNX operator")
    precision: Precision


class LayerReport(Contract):
    """A layer of a built engine. `precision` is None for one that only holds, moves or converts values."""

    name: str
    kind: str = Field(description="as the runtime calls it")
    precision: Execution | None
    told: str = Field(description="the runtime's own words on its types")
    nodes: tuple[str, ...] = Field(default=(), description="graph nodes fused into it, where the runtime tells them")


class Layers(Contract):
    """The evidence behind an attestation, kept as one JSON file an engine.

    `engine` is empty for an engine that cannot run here. `settings` are those that bear on precision, as read back from
    the loaded engine.
    """

    format: Literal[1] = 1
    build_key: Digest
    source: str = Field(description="what `engine` was read from")
    settings: Mapping[str, str] = {}
    graph: tuple[GraphNode, ...]
    engine: tuple[LayerReport, ...]

    def graph_counts(self) -> dict[Precision, int]:
        """Compute nodes of the typed graph by precision, zeros included: what `Attestation.graph` must be."""
        counts = Counter(node.precision for node in self.graph)
        return {precision: counts[precision] for precision in Precision}

    def executed(self) -> dict[Execution, int]:
        """Kernels that compute, by type: what `Attestation.executed` must be; empty when none is known."""
        return dict(Counter(layer.precision for layer in self.engine if layer.precision is not None))

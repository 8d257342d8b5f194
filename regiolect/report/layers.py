"""What runs in each engine, layer by layer, as the page shows it: bounded, while the bundle has all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from regiolect.attest import read_layers
from regiolect.contracts import Attestation, Execution, LayerReport, Layers, Precision, RegionOutcome
from regiolect.errors import IntegrityError, StorageError
from regiolect.precision import coarser_than
from regiolect.report.words import STRENGTHS, fusion_words
from regiolect.storage import Store

# Lines of kernels and names of nodes that one engine may take on the page, and all of them together.
MOST_OF_ONE = 300
MOST_OF_ALL = 6000
FEWEST_OF_ONE = 20

LayerLists = Mapping[str, Layers | StorageError | IntegrityError]
"""By build key: the layers behind an engine's attestation, or why they cannot be read."""


@dataclass(frozen=True)
class LayerView:
    """One engine's layers.

    kernels: those that compute, in order of execution, but those coarser than the policy allows come first; `more` are
        left out, `moving` compute nothing.
    coarse: types of kernels that are coarser than the policy's precision.
    nodes: names of graph nodes by precision, widest first, with how many are left out.
    unread: why the lists are not there; empty if they are.
    """

    attestation: Attestation
    settings: Mapping[str, str] = field(default_factory=dict)
    kernels: tuple[LayerReport, ...] = ()
    coarse: frozenset[Execution] = frozenset()
    more: int = 0
    moving: int = 0
    nodes: tuple[tuple[Precision, tuple[str, ...], int], ...] = ()
    unread: str = ""

    @property
    def strength(self) -> str:
        return STRENGTHS[self.attestation.strength] if self.attestation.strength else "strength unknown"

    @property
    def fusion(self) -> str:
        return fusion_words(self.attestation)

    @property
    def graph(self) -> list[tuple[Precision, int]]:
        """Compute nodes of the typed graph by type, widest first; only types that occur."""
        return [(kind, self.attestation.graph[kind]) for kind in Precision if self.attestation.graph.get(kind)]

    @property
    def executed(self) -> list[tuple[Execution, int]]:
        """Kernels by type, widest first."""
        counts = self.attestation.executed or {}
        return [(kind, counts[kind]) for kind in Execution if kind in counts]


def layers_of(outcomes: Sequence[RegionOutcome], store_of: Callable[[str], Store]) -> LayerLists:
    """Read the layers behind each outcome's attestation. What cannot be read is told on the page, not raised.

    Args:
        store_of: the store of a region.
    """
    layers: dict[str, Layers | StorageError | IntegrityError] = {}
    for outcome in outcomes:
        attestation = outcome.attestation
        if attestation is None or attestation.layers is None:
            continue
        try:
            path = store_of(outcome.region).path_of(attestation.layers)
            layers[outcome.build_key] = read_layers(attestation, path.read_bytes())
        except (StorageError, IntegrityError) as error:
            layers[outcome.build_key] = error
    return layers


def most_lines(engines: int) -> int:
    """How many lines each of `engines` lists may take."""
    return max(FEWEST_OF_ONE, min(MOST_OF_ONE, MOST_OF_ALL // max(engines, 1)))


def layer_view(outcome: RegionOutcome | None, lists: LayerLists, most: int) -> LayerView | None:
    """What the page shows of an engine; None where nothing was attested."""
    if outcome is None or outcome.attestation is None:
        return None
    layers = lists.get(outcome.build_key)
    if not isinstance(layers, Layers):
        older = "this engine was attested before layers were kept"
        return LayerView(outcome.attestation, unread=older if layers is None else str(layers))
    coarse = frozenset(kind for kind in layers.executed() if coarser_than(kind, outcome.precision))
    kernels = [layer for layer in layers.engine if layer.precision is not None]
    kernels.sort(key=lambda layer: layer.precision not in coarse)
    names = {kind: [node.name for node in layers.graph if node.precision is kind] for kind in Precision}
    return LayerView(
        outcome.attestation,
        settings=layers.settings,
        kernels=tuple(kernels[:most]),
        coarse=coarse,
        more=max(0, len(kernels) - most),
        moving=len(layers.engine) - len(kernels),
        nodes=tuple((kind, tuple(nodes[:most]), max(0, len(nodes) - most)) for kind, nodes in names.items() if nodes),
    )

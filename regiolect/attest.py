"""The two attestations of an engine's precision: what its graph says, and what the built engine says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pydantic import ValidationError

from regiolect.contracts import Attestation, EngineArtifact, LayerReport, Layers
from regiolect.engines.base import Backend
from regiolect.errors import IntegrityError, NotRunnableHere
from regiolect.integrity import canonical_json
from regiolect.precision import differs_by_arithmetic
from regiolect.storage import Store


def attest(backend: Backend, artifact: EngineArtifact, store: Store) -> Attestation:
    """Scan the typed graph, ask the loaded engine what it executes, and keep both, layer by layer.

    An engine that cannot run here, or that reports no compute kernel at all, gets `executed=None` and the reason as
    `source`: unknown is never taken for good. Its `layers` then hold the graph's nodes alone.

    Raises:
        InvalidOnnx, UnsupportedOperator: the graph cannot be scanned.
        AttestationFailed: the engine names a type that is not known here, or does not tell enough.
        IntegrityError, EngineLoadFailed, BackendUnavailable: the engine cannot be loaded.
        StorageError: the layers cannot be kept.
    """
    from regiolect.graphs import typed_nodes

    nodes, names = typed_nodes(store.path_of(artifact.request.graph))
    layers = Layers(build_key=artifact.request.build_key, source="", graph=nodes, engine=())
    strength = None
    try:
        engine = backend.load(artifact, store)
    except NotRunnableHere as error:
        layers = layers.model_copy(update={"source": f"not run: {error.found}"})
    else:
        executed = tuple(_with_graph_names(layer, names) for layer in engine.layers())
        settings, source = dict(engine.settings()), engine.executed_source()
        if any(layer.precision is not None for layer in executed):
            strength = engine.strength
        else:
            source = f"no compute kernel is listed by {source}"
        layers = layers.model_copy(update={"source": source, "settings": settings, "engine": executed})
    return Attestation(
        graph=layers.graph_counts(),
        executed=layers.executed() or None,
        source=layers.source,
        strength=strength,
        layers=store.put_bytes(canonical_json(layers)),
        arithmetic=backend.arithmetic() if any(map(differs_by_arithmetic, layers.executed())) else None,
    )


def read_layers(attestation: Attestation, data: bytes) -> Layers:
    """The layers behind an attestation.

    Args:
        data: the content of `attestation.layers`, its digest verified.

    Raises:
        IntegrityError: it is no such file, or tells other counts than the attestation.
    """
    try:
        layers = Layers.model_validate_json(data)
    except ValidationError as error:
        found = f"{error.errors()[0]['msg']}"
    else:
        # A precision that came later has no count in it, which a Counter takes for zero.
        same = Counter(layers.graph_counts()) == Counter(attestation.graph)
        if same and layers.executed() == dict(attestation.executed or {}):
            return layers
        found = "other counts than the attestation tells"
    raise IntegrityError(
        expected="the layers behind an attestation, format 1, that count up to it",
        found=found,
        remedy="attest the engine again: regiolect run MODEL --force",
    )


def _with_graph_names(layer: LayerReport, names: Mapping[str, str]) -> LayerReport:
    nodes = (_graph_name(own, names) for own in layer.nodes)
    return layer.model_copy(update={"nodes": tuple(dict.fromkeys(name for name in nodes if name is not None))})


def _graph_name(name: str, names: Mapping[str, str]) -> str | None:
    """The graph node that a runtime's name stands for. Runtimes append parts with slashes to the names they split."""
    while name not in names and "/" in name:
        name = name.rpartition("/")[0]
    return names.get(name)

"""The two attestations of an engine's precision: what its graph says, and what the built engine says of itself."""

from __future__ import annotations

from regiolect.contracts import Attestation, EngineArtifact
from regiolect.engines.base import Backend
from regiolect.errors import NotRunnableHere
from regiolect.storage import Store


def attest(backend: Backend, artifact: EngineArtifact, store: Store) -> Attestation:
    """Scan the typed graph and ask the loaded engine what it executes.

    An engine that cannot run here, or that reports no compute kernel at all, gets `executed=None` and the reason as
    `source`: unknown is never taken for good.

    Raises:
        InvalidOnnx, UnsupportedOperator: the graph cannot be scanned.
        AttestationFailed: the engine names a type that is not known here.
        IntegrityError, EngineLoadFailed, BackendUnavailable: the engine cannot be loaded.
    """
    from regiolect.graphs import scan_graph

    graph = scan_graph(store.path_of(artifact.request.graph))
    try:
        engine = backend.load(artifact, store)
    except NotRunnableHere as error:
        return Attestation(graph=graph, executed=None, source=f"not run: {error.found}")
    executed = dict(engine.executed())
    if not executed:
        return Attestation(
            graph=graph, executed=None, source=f"no compute kernel is listed by {engine.executed_source()}"
        )
    return Attestation(graph=graph, executed=executed, source=engine.executed_source())

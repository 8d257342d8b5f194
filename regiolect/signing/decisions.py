"""The statement that the gate approved one engine, over everything that the decision rests on.

Digests are those of what the bundle's manifest says, as it says it: a field that a later version of Regiolect adds with
a default does not change what an earlier one signed.
"""

from __future__ import annotations

from typing import Any

from regiolect.contracts import ApprovedEngine, Contract, Preprocessing
from regiolect.integrity import digest_of
from regiolect.signing.envelope import Statement, statement

GATE_DECISION = "https://regiolect.dev/gate-decision/v1"


def decision_statement(approved: ApprovedEngine, source: str, preprocessing: Preprocessing, folder: str) -> Statement:
    """What is signed of an engine, as it stands in a manifest that was read.

    Args:
        approved: read from JSON: what its writer did not know must not be filled in.
        source: digest of what defines the model.
        preprocessing: what is done to raw inputs before the engine sees them.
        folder: where the engine's files lie in the bundle.
    """
    engine, request = approved.engine, approved.engine.request
    # An engine that was not tuned, or is of no class, has the statement that it had before engines could be.
    tuning = {"tuning": digest_of(as_written(approved.tuning))} if approved.tuning is not None else {}
    arithmetic = {"arithmetic": request.arithmetic.value} if request.arithmetic is not None else {}
    return statement(
        GATE_DECISION,
        {f"{folder}/{file.path}": file.blob.digest for file in engine.files},
        {
            "model": request.model,
            "region": request.region,
            "target": request.target.name,
            "precision": request.precision.value,
            **arithmetic,
            "build_key": request.build_key,
            "source": source,
            "digests": {
                "graph": request.graph.digest,
                "policy": request.policy,
                "calibration table": engine.calibration,
                "per-sample results": approved.evaluation.results.digest,
                "engine description": digest_of(as_written(engine)),
                "preprocessing": digest_of(as_written(preprocessing)),
                "attestation": digest_of(as_written(approved.attestation)),
                "evaluation": digest_of(as_written(approved.evaluation)),
                **tuning,
            },
            "decision": as_written(approved.decision),
        },
    )


def as_written(value: Contract) -> Any:
    """The JSON that a contract was read from."""
    return value.model_dump(mode="json", exclude_unset=True)

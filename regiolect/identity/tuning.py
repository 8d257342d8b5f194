"""What a tuning is known by, wherever its journal lies."""

from __future__ import annotations

from regiolect.contracts import ApprovedEngine, RegionOutcome
from regiolect.integrity import digest_of


def tuning_digest(engine: ApprovedEngine | RegionOutcome) -> str | None:
    """Digest of what an engine was tuned to, the same in a store and in a bundle; None if it was not tuned."""
    if engine.tuning is None:
        return None
    tuned = engine.tuning.model_dump(mode="json", exclude={"journal"})
    return digest_of({**tuned, "journal": engine.tuning.journal.digest})

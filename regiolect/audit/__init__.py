"""The audit: everything that consumers can load, held against its own evidence and against today's policies and keys.

    evidence.py   what a bundle proves of its engines, by its bytes alone
    today.py      what today's policies say of an engine that was approved earlier
    run.py        every version of a registry, several at a time
    table.py      what was found, as a table

Nothing is believed: not the registry's tags, not a manifest, not a decision that anybody can recompute.
"""

from regiolect.audit.run import audit
from regiolect.audit.table import rows

__all__ = ["audit", "rows"]

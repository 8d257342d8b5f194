"""The audit: everything that consumers can load, against its own evidence and today's policies and keys."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from regiolect.contracts import AuditResult
from regiolect.errors import AuditError
from tasks.audit import audit_registry, link_audit

Everything = Annotated[
    bool,
    Field(title="All versions", description="Also those that no alias points at: they can be loaded by number."),
]


@flow(name="audit")
def audit(everything: Everything = False) -> AuditResult:
    """Say what speaks against any registered engine; fail if something does. Changes nothing.

    Raises:
        AuditError: there is something; the artifact lists all of it.
    """
    result = audit_registry(everything)
    link_audit(result)
    if not result.clean:
        raise AuditError(
            expected="nothing that speaks against an engine that consumers can load",
            found=result.summary(),
            remedy="read the artifact `audit` of this run; most is mended by releasing the region again",
        )
    return result

"""Everything that consumers can load, and what speaks against it."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from regiolect import audit
from regiolect.contracts import AuditResult
from regiolect.policy import PolicyBook
from regiolect.registry import Registry
from regiolect.settings import load_settings


@task(name="audit registry", tags=["registry"], cache_policy=NO_CACHE)
def audit_registry(everything: bool) -> AuditResult:
    settings = load_settings()
    registry = Registry.of(settings)
    return audit.audit(registry, PolicyBook(settings.policies), stores=settings.find_store, everything=everything)


@task(name="link audit", cache_policy=NO_CACHE)
def link_audit(result: AuditResult) -> None:
    create_table_artifact(audit.rows(result), key="audit", description=result.summary())

"""Sequence only: which stage follows which, and what runs side by side."""

from regiolect.errors.output import redact_output
from regiolect.host.garbage import look_seldom

# A run that a worker starts begins with a module of this package; Prefect keeps what it logs.
redact_output()
look_seldom()

"""A plan that is made before the flow that works by it, so that a release is planned once.

The command line plans before it starts anything, so that a wrong request is answered at once; the flow asks for the
same plan in the same process. Nothing of it travels: a flow that is started elsewhere plans for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from regiolect.planning.asked import ReleaseRequest
from regiolect.planning.plan import Plan

_AHEAD: ContextVar[dict[ReleaseRequest, Plan] | None] = ContextVar("ahead", default=None)


@contextmanager
def planned_ahead(asked: ReleaseRequest, plan: Plan) -> Iterator[None]:
    """Within the block the plan of this request is there to be taken, once."""
    token = _AHEAD.set({asked: plan})
    try:
        yield
    finally:
        _AHEAD.reset(token)


def take_plan(asked: ReleaseRequest) -> Plan | None:
    """The plan that was made ahead for just this request, if nobody took it yet: what is asked for a second time is to
    be looked at again."""
    ahead = _AHEAD.get()
    return None if ahead is None else ahead.pop(asked, None)

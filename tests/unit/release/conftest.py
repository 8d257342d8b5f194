"""Plans of a workshop of two regions, and builds that are only bytes."""

from tests.unit.planning.conftest import build, plan, store, workshop

__all__ = ["build", "plan", "store", "workshop"]

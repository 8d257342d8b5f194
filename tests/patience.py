"""How long a test waits for what another process does: only a hang takes so long, however loaded the machine is."""

from __future__ import annotations

PATIENCE = 600.0

"""What a run tells while it works, in its log; `regiolect.report.lines` tells what became of a region."""

from __future__ import annotations

import logging

logger = logging.getLogger("regiolect.progress")
# A run on a server shows these lines in its own log; nobody there asks for a level.
logger.setLevel(logging.INFO)


def note(what: str) -> None:
    """Something that concerns the whole run."""
    logger.info(what)

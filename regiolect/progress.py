"""What a run tells while it works, in its log; `regiolect.report.lines` tells what became of a region."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

logger = logging.getLogger("regiolect.progress")
# A run on a server shows these lines in its own log; nobody there asks for a level.
logger.setLevel(logging.INFO)


class _Lines(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as `logging` calls it
        """Nothing: a line that cannot be printed, for stderr was closed or its disk is full, ends no release."""


def note(what: str) -> None:
    """Something that concerns the whole run."""
    logger.info(what)


@contextmanager
def watching(verbose: bool = False, progress: bool = True) -> Iterator[None]:
    """Print progress to stderr, in a terminal, a script and a notebook alike, while the block lasts.

    Args:
        verbose: every step as well, and what the libraries log; they are silent otherwise.
        progress: False: print no line; the libraries are as `verbose` says.
    """
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    if not progress:
        yield
        return
    # A notebook has a stderr of its own for each cell.
    handler = _Lines(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        level, logger.propagate = before
        logger.setLevel(level)

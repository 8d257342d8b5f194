"""When the work of a batch is recorded, to be launched as a whole. Imports no vendor's library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Shapes = tuple[tuple[int, ...], ...]


class Launchable(Protocol):
    """Work that was recorded."""

    def launch(self) -> None:
        """Do it again."""


class Recorded:
    """What one execution context does for the shapes that it had last.

    A recording belongs to its context as it was: once the context is given other shapes, launching it is undefined. So
    one at most is there, of the present shapes. It is made when they come a second time in a row, for a recording costs
    more than a run, and the first run of a shape may still allocate.
    """

    def __init__(self) -> None:
        self._shapes: Shapes | None = None
        self._recording: Launchable | None = None
        self._tried = False

    def changed(self, shapes: Shapes) -> bool:
        """Whether the context has other shapes, or none yet; what was recorded is dropped then."""
        if shapes == self._shapes:
            return False
        self._shapes = self._recording = None
        self._tried = False
        return True

    def first(self, shapes: Shapes) -> None:
        """The context was given these shapes and has run them once."""
        self._shapes = shapes

    def again(self, record: Callable[[], Launchable | None], run: Callable[[], None]) -> None:
        """Run the present shapes once more.

        Args:
            record: what they run, not run; None if it cannot be recorded, which is not tried again then.
            run: as it is.
        """
        if not self._tried:
            self._tried = True
            self._recording = record()
        if self._recording is None:
            run()
        else:
            self._recording.launch()

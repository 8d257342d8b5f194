"""When work is recorded and launched as a whole, and when it must not be."""

from __future__ import annotations

import numpy as np
import pytest

from regiolect.engines.tensorrt.recorded import Recorded, Shapes


class Context:
    """An execution context that is given shapes and runs or records them, and tells what it did."""

    def __init__(self, records: bool = True) -> None:
        self.recorded, self.records = Recorded(), records
        self.shapes: Shapes = ()
        self.did: list[str] = []

    def batch(self, *shape: int) -> None:
        """What a batch of that shape does, as the runner asks it."""
        shapes: Shapes = (shape,)
        if self.recorded.changed(shapes):
            self.shapes = shapes
            self.did.append("set")
            self.run()
            self.recorded.first(shapes)
        else:
            self.recorded.again(self.record, self.run)

    def run(self) -> None:
        self.did.append("run")

    def record(self) -> Recording | None:
        self.did.append("record")
        return Recording(self) if self.records else None


class Recording:
    """As NVIDIA documents it: good for the context as it was when it was made."""

    def __init__(self, context: Context) -> None:
        self.context, self.shapes, self.sets = context, context.shapes, context.did.count("set")

    def launch(self) -> None:
        assert self.context.shapes == self.shapes
        assert self.context.did.count("set") == self.sets, "the context was given other shapes in between"
        self.context.did.append("launch")


def test_shapes_that_stay_are_recorded_when_they_come_again_and_launched_from_then_on() -> None:
    context = Context()
    for _ in range(4):
        context.batch(8, 3)
    assert context.did == ["set", "run", "record", "launch", "launch", "launch"]


def test_shapes_that_take_turns_are_never_recorded_and_what_was_recorded_before_is_not_launched() -> None:
    context = Context()
    for size in (8, 8, 4, 8, 4, 8, 8):
        context.batch(size, 3)
    assert context.did == ["set", "run", "record", "launch", *["set", "run"] * 4, "record", "launch"]


def test_what_cannot_be_recorded_is_run_and_not_tried_again() -> None:
    context = Context(records=False)
    for _ in range(3):
        context.batch(8)
    assert context.did == ["set", "run", "record", "run", "run"]


def test_a_context_that_failed_is_given_its_shapes_anew() -> None:
    recorded = Recorded()
    assert recorded.changed(((8,),))
    # It failed: nobody says that they were run.
    assert recorded.changed(((8,),))


@pytest.mark.parametrize("seed", range(5))
def test_no_recording_outlives_the_shapes_of_its_context(seed: int) -> None:
    context, chance = Context(), np.random.default_rng(seed)
    for size in chance.choice((1, 1, 1, 2, 4), 500):
        context.batch(int(size))
    assert "launch" in context.did

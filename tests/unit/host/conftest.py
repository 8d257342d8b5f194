"""A child for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from regiolect.host.isolated import Child
from tests.unit.host.children import AMPLE


@pytest.fixture
def child() -> Iterator[Child]:
    with Child("eu on cpu", AMPLE) as made:
        yield made

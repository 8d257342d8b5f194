from __future__ import annotations

import json
from pathlib import Path

from regiolect.contracts import DEFAULT_METHOD

RESULT = Path(__file__).parents[3] / "benchmarks" / "results" / "methods.json"


def test_the_default_method_is_the_one_that_the_benchmark_chose() -> None:
    assert json.loads(RESULT.read_text())["chosen"] == DEFAULT_METHOD

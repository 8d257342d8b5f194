"""`regiolect diff`: two engines, wherever they lie, fact by fact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regiolect.contracts import Decision
from regiolect.errors import UsageError
from regiolect.planning import OUTCOMES
from tests.unit.cli.conftest import LOOSER

Typed = Callable[..., str]


def test_what_two_builds_were_made_from_and_what_they_came_to_is_told(typed: Typed, built) -> None:
    keys = [built(*of)[1].request.build_key for of in ((b"1" * 10_000,), (b"2" * 20_000, LOOSER))]
    first, second, inputs, _, *lines = typed("diff", *keys).splitlines()
    assert first == f"first    tiny eu cpu, build {keys[0]}"
    assert second == f"second   tiny eu cpu, build {keys[1]}"
    assert inputs == "inputs   the policy (accuracy.limit 100 -> 99)"
    rows = {line[:12].strip(): line[12:].split() for line in lines}
    assert rows["precision"] == ["FP32", "same"]
    assert rows["calibration"] == ["none", "needed", "same"]
    assert rows["accuracy"][-1] == rows["p50"][-1] == "same"
    assert "limit 99 +0.00 pt" in " ".join(rows["loss"])
    assert rows["size"][-1] == "2.00x"


def test_bundles_are_compared_place_by_place(typed: Typed, bundles, home: Path, tmp_path: Path) -> None:
    """Nothing of them is kept here, as on a consumer's machine."""
    bundles.write(tmp_path / "a", bundles.artifact(), bundles.artifact(target="edge", content=b"edge"))
    bundles.write(tmp_path / "b", bundles.artifact(content=b"other"))
    names = (str(tmp_path / "a"), str(tmp_path / "b"))
    told = json.loads(typed("diff", *names, "--json"))
    (pair,) = told["engines"]
    assert pair["inputs"] is None
    assert {"name": "precision", "first": "FP32", "second": "FP32", "change": ""} in pair["facts"]
    assert told["alone"] == [f"{names[0]}: edge"]
    said = typed("diff", *names)
    assert "inputs   not known" in said and said.endswith(f"only in {names[0]}: edge\n")
    assert "inputs   the same build" in typed("diff", names[1], names[1])
    bundles.write(tmp_path / "c", *(bundles.artifact(target=name) for name in ("x", "y")))
    with pytest.raises(UsageError, match="for the same place"):
        typed("diff", names[0], str(tmp_path / "c"))


def test_a_build_that_came_to_no_engine_is_told(typed: Typed, built) -> None:
    own, artifact = built(b"one")
    refused = own.outcome(own.artifact(content=b"two"), Decision.REFUSED)
    own.store.put_record(OUTCOMES, refused.build_key, refused)
    with pytest.raises(UsageError, match="refused: a test"):
        typed("diff", artifact.request.build_key, refused.build_key)

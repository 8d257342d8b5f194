"""A folder that has the policies is found among those of the working directory, whatever a region is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from regiolect.policy.elsewhere import folder_with


def test_the_folder_that_has_one_of_the_policies_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "b" / "eu.yaml").write_text("region: eu")
    assert folder_with(("na", "eu")) == "b"
    assert folder_with(("na",)) is None


@pytest.mark.parametrize("region", ["**", "../b", "x\0y", "e" * 300])
def test_a_name_that_no_region_has_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    assert folder_with((region,)) is None

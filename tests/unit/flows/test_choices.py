"""The fields of the forms: they offer the policies and models of the moment, while a call from Python is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, create_model

from flows.choices import ModelName, Models, RegionName, Regions, TargetName, Targets, offering
from regiolect.policy import PolicyBook, builtin_policies
from regiolect.settings import Settings


def schema(field: Any) -> dict[str, Any]:
    form = create_model("Form", field=(field, None))
    return form.model_json_schema()["properties"]["field"]


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for region in ("eu", "jp"):
        (tmp_path / f"{region}.yaml").write_bytes((builtin_policies() / f"{region}.yaml").read_bytes())
    monkeypatch.setenv("REGIOLECT_POLICIES", str(tmp_path))
    monkeypatch.setenv("REGIOLECT_MODELS", "one.package:MODEL, other:MODEL,,one.package:MODEL")
    return tmp_path


def test_forms_offer_the_known_models_regions_and_targets(policies: Path) -> None:
    offered = schema(ModelName)["enum"]
    assert offered[-2:] == ["one.package:MODEL", "other:MODEL"]
    assert schema(Models)["items"]["enum"] == offered
    assert schema(Regions)["items"]["enum"] == ["eu", "jp"]
    assert schema(Targets)["items"]["enum"] == ["cpu-x86", "gpu-rtx"]
    assert schema(RegionName)["enum"] == ["eu", "jp"]
    assert schema(TargetName)["enum"] == ["cpu-x86", "gpu-rtx"]


def test_lists_are_plain_ones_of_which_none_means_all(policies: Path) -> None:
    # With a choice between a list and null, Prefect's pages show two buttons instead of the list.
    for field in (Models, Regions, Targets):
        assert schema(field)["type"] == "array"
        assert schema(field)["default"] == []


def test_a_region_that_is_added_is_offered_the_next_time(policies: Path) -> None:
    (policies / "na.yaml").write_bytes((builtin_policies() / "na.yaml").read_bytes())
    assert schema(Regions)["items"]["enum"] == ["eu", "jp", "na"]


def test_policies_that_are_named_come_before_those_of_the_environment(policies: Path) -> None:
    with offering(PolicyBook(builtin_policies()), Settings(models="third:MODEL")):
        assert "br" in schema(Regions)["items"]["enum"]
        assert schema(ModelName)["enum"][-1] == "third:MODEL"
    assert schema(Regions)["items"]["enum"] == ["eu", "jp"]


def test_unreadable_policies_leave_the_field_free_instead_of_stopping_the_import(policies: Path) -> None:
    (policies / "jp.yaml").write_text("region: [")
    assert schema(Targets)["items"]["enum"] == ["cpu-x86"]
    for file in policies.glob("*.yaml"):
        file.unlink()
    assert "enum" not in schema(Regions)["items"]


@pytest.mark.parametrize("value", [None, [], ["anything"]])
def test_python_may_pass_any_value(policies: Path, value: list[str] | None) -> None:
    assert TypeAdapter(Regions).validate_python(value) == value
    assert TypeAdapter(ModelName).validate_python("anything:AT_ALL") == "anything:AT_ALL"

"""Settings: paths that no change of directory moves, telemetry that is off, passwords that stay hidden."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from regiolect.errors import InvalidSetting
from regiolect.settings import QUIET, GivenSettings, Settings, load_settings, settings_for


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*QUIET, "PREFECT_HOME", "MLFLOW_TRACKING_URI", "REGIOLECT_MLFLOW_TRACKING_URI", "REGIOLECT_POLICIES"]:
        # Set before it is deleted, so that what load_settings puts there is taken away again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("REGIOLECT_HOME", "home")
    monkeypatch.chdir(tmp_path)


def test_a_relative_home_is_made_absolute_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    monkeypatch.chdir("/")
    assert settings.home == tmp_path / "home"
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/home/mlflow.db"


def test_telemetry_is_off_unless_the_user_turned_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
    load_settings()
    assert {name: os.environ[name] for name in QUIET} == {**QUIET, "PREFECT_SERVER_ANALYTICS_ENABLED": "true"}


def test_mlflows_own_variable_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    assert load_settings().tracking_uri == "http://mlflow.example"


def test_a_variable_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIOLECT_HOME", "~nobody-of-that-name/home")
    with pytest.raises(InvalidSetting, match="REGIOLECT_HOME"):
        load_settings()


@pytest.mark.parametrize(("given", "read"), [("eu", "eu"), ("", None)])
def test_the_hosts_region_is_read_and_may_be_left_open(
    monkeypatch: pytest.MonkeyPatch, given: str, read: str | None
) -> None:
    monkeypatch.setenv("REGIOLECT_REGION", given)
    assert load_settings().region == read


def test_a_region_that_no_policy_could_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIOLECT_REGION", "Europe!")
    with pytest.raises(InvalidSetting, match=r"REGIOLECT_REGION.*Europe!"):
        load_settings()


# ------------------------------------------------------------------------------------------------- given by keyword


def test_what_a_call_may_be_given_are_settings_and_no_misspelt_options() -> None:
    known = {str(each.validation_alias or f"REGIOLECT_{name.upper()}") for name, each in Settings.model_fields.items()}
    given = {f"REGIOLECT_{name.upper()}" for name in GivenSettings.__annotations__}
    assert given < known
    assert "REGIOLECT_REGION" not in given, "`region` is how `regions` is misspelt, and would mean all of them"


def test_given_settings_hold_for_the_block_and_for_all_that_reads_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIOLECT_STORE", "before")
    with settings_for(home="given", store="there", policies=None) as settings:
        assert settings.home == tmp_path / "given"
        assert (load_settings().home, load_settings().store_location) == (settings.home, str(tmp_path / "there"))
    assert os.environ["REGIOLECT_HOME"] == "home"
    assert os.environ["REGIOLECT_STORE"] == "before"
    assert "REGIOLECT_POLICIES" not in os.environ


def test_given_settings_are_taken_back_when_they_are_wrong() -> None:
    with pytest.raises(InvalidSetting, match="REGIOLECT_ISOLATION"), settings_for(isolation="maybe"):
        pytest.fail("it began")
    assert "REGIOLECT_ISOLATION" not in os.environ


def test_blocks_of_two_threads_do_not_mix(tmp_path: Path) -> None:
    homes, inside = [], threading.Event()

    def other() -> None:
        inside.set()
        with settings_for(home="other") as settings:
            homes.append(settings.home)

    thread = threading.Thread(target=other)
    with settings_for(home="first"):
        thread.start()
        inside.wait(60)
        homes.append(load_settings().home)
    thread.join(60)
    assert homes == [tmp_path / "first", tmp_path / "other"]
    assert os.environ["REGIOLECT_HOME"] == "home"

"""Settings: paths that no change of directory moves, telemetry that is off, passwords that stay hidden."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from regiolect.errors import InvalidSetting
from regiolect.settings import (
    PROJECT_FILE,
    QUIET,
    GivenSettings,
    Settings,
    load_settings,
    project_folder,
    settings_for,
    variable,
)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*QUIET, "PREFECT_HOME", "MLFLOW_TRACKING_URI", PROJECT_FILE, *map(variable, Settings.model_fields)]:
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


# -------------------------------------------------------------------------------------------------- a project's file


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a project, in a folder of which commands are typed; nothing is said of its home elsewhere."""
    monkeypatch.delenv("REGIOLECT_HOME")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    return tmp_path / "regiolect.toml"


def test_what_the_file_states_counts_and_its_paths_are_from_its_folder(project: Path) -> None:
    project.write_text(
        'model = "models:MODEL"\nmodels = ["a:B", "c:D"]\npolicies = "policies"\nstore = "kept/{region}"\n'
        'mlflow_tracking_uri = "http://file.example"\nchild_minutes = 3\n'
    )
    settings, folder = load_settings(), project.parent
    assert (settings.home, settings.policies) == (folder / ".regiolect", folder / "policies")
    assert settings.store_location == f"{folder}/kept/{{region}}"
    assert settings.known_models()[-3:] == ("a:B", "c:D", "models:MODEL")
    assert (settings.model, settings.child_minutes) == ("models:MODEL", 3.0)
    assert settings.tracking_uri == "http://file.example"
    assert project_folder() == folder


def test_the_environment_goes_before_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write_text(
        'home = "there"\nstore = "there"\nmlflow_tracking_uri = "http://file.example"\nbuild_on = "here"'
    )
    for name in ("REGIOLECT_HOME", "REGIOLECT_STORE", "REGIOLECT_BUILD_ON"):
        monkeypatch.setenv(name, "pools")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment.example")
    settings, here = load_settings(), project.parent / "inner" / "pools"
    assert (settings.home, settings.store_location, settings.build_on) == (here, str(here), "pools")
    assert settings.tracking_uri == "http://environment.example"


def test_an_address_and_a_users_folder_stay_what_they_are(project: Path) -> None:
    project.write_text('home = "~/home"\nstore = "s3://bucket-{region}/prefix"')
    settings = load_settings()
    assert (settings.home, settings.store_location) == (Path.home() / "home", "s3://bucket-{region}/prefix")


def test_the_file_is_read_once_and_child_processes_find_what_it_said(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_text('model = "models:MODEL"\nmachine_wait_seconds = 7')
    before = load_settings()
    project.write_text("half of a li")
    monkeypatch.chdir("/")
    assert load_settings() == before
    assert os.environ["REGIOLECT_MACHINE_WAIT_SECONDS"] == "7.0"


def test_a_block_of_given_settings_leaves_what_the_file_says_as_it_was(project: Path) -> None:
    project.write_text('home = "there"\npolicies = "there"')
    with settings_for(home="given") as settings:
        assert settings.home == project.parent / "inner" / "given"
        assert settings.policies == project.parent / "there"
    assert load_settings().home == project.parent / "there"


@pytest.mark.parametrize(
    ("line", "found", "remedy"),
    [
        ('hom = "x"', "the key 'hom'", "did you mean home?"),
        ("speed = 1", "the key 'speed'", "remove it, or correct its name"),
        ('trust = "trust.json"', "the key 'trust'", "REGIOLECT_TRUST"),
        ('signing_key = "key.pem"', "the key 'signing_key'", "REGIOLECT_SIGNING_KEY"),
        ('region = "eu"', "the key 'region'", "REGIOLECT_REGION"),
        ("home = 3", "home = 3", "correct it"),
        ("model = []", "model = []", "correct it"),
        ("child_minutes = true", "child_minutes = True", "correct it"),
        ('child_minutes = "many"', "child_minutes = 'many'", "correct it"),
        ('build_on = "there"', "build_on = 'there'", "correct it"),
        ("[models]", "models = {}", "correct it"),
        ('store = "ftp://there"', "ftp://there", "set it to a folder or to s3://bucket/prefix"),
    ],
)
def test_what_the_file_may_not_say_is_refused_by_name_with_the_file(
    project: Path, line: str, found: str, remedy: str
) -> None:
    project.write_text(line)
    with pytest.raises(InvalidSetting) as error:
        load_settings()
    assert str(project) in error.value.expected
    assert error.value.found.startswith(found)
    assert remedy in error.value.remedy


def test_a_variable_is_named_as_one_where_there_is_a_file_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write_text("child_minutes = 3")
    monkeypatch.setenv("REGIOLECT_CHILD_MINUTES", "many")
    with pytest.raises(InvalidSetting, match=r"in REGIOLECT_CHILD_MINUTES; found 'many'"):
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

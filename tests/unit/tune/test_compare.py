"""Two sites with one type of device: a lag is told only beyond the noise. The recorded journals are synthetic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regiolect.cli.app import app
from regiolect.contracts import Blob
from regiolect.errors import TuningError
from regiolect.integrity import digest_bytes
from regiolect.tune.compare import compare, read_site
from regiolect.tune.figures import tuned_engine
from tests.unit.tune.conftest import Invent, Way

GOLDEN = Path(__file__).parents[2] / "golden" / "tuning_v1"
OSLO, LYON, TURIN = (GOLDEN / f"{site}.json" for site in ("oslo", "lyon", "turin"))


@pytest.mark.parametrize("file", [OSLO, LYON, TURIN], ids=lambda path: path.stem)
def test_the_recorded_journals_say_of_themselves_that_they_are_synthetic(file: Path) -> None:
    assert json.loads(file.read_bytes())["note"].startswith("SYNTHETIC")


def test_a_site_that_lags_is_named_with_how_much() -> None:
    found = compare(read_site(OSLO), read_site(LYON))
    assert found.slower == "lyon"
    assert found.lag == pytest.approx(0.25, abs=0.02)
    assert found.noise < 0.05
    assert len(found.points) == 4
    assert found.summary().startswith("lyon lags behind oslo: slower by 2")
    other_way = compare(read_site(LYON), read_site(OSLO))
    assert (other_way.slower, other_way.lag) == ("lyon", pytest.approx(found.lag))


def test_sites_that_differ_within_the_noise_are_alike() -> None:
    found = compare(read_site(OSLO), read_site(TURIN))
    assert found.slower is None
    assert "oslo and turin are alike" in found.summary()


def test_other_engines_and_other_devices_are_not_compared() -> None:
    oslo = read_site(OSLO)
    with pytest.raises(TuningError, match=r"one type of device.*found oslo's with cpu another"):
        compare(oslo, oslo.model_copy(update={"device": {**oslo.device, "cpu": "another"}}))
    with pytest.raises(TuningError, match="two tunings of one engine"):
        compare(oslo, oslo.model_copy(update={"engine": digest_bytes(b"another")}))


def test_what_was_tuned_will_do_in_place_of_the_journal(invent: Invent, tmp_path: Path) -> None:
    kept = Blob(uri="file:///journal", digest=digest_bytes(b"journal"), size=7)
    for name, share in (("here", 1.0), ("there", 1.4)):
        ways = (Way(10.0 * share), Way(6.0 * share, settings="threads=2"), Way(20.0 * share, batch=32))
        (tmp_path / f"{name}.json").write_text(tuned_engine(invent(*ways), kept).model_dump_json())
    found = compare(read_site(tmp_path / "here.json"), read_site(tmp_path / "there.json"))
    assert (found.slower, found.lag) == ("there", pytest.approx(0.4, abs=0.02))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 2}'])
def test_what_is_no_tuning_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(TuningError, match="a TuningJournal or a TunedEngine"):
        read_site(tmp_path / "a.json")
    with pytest.raises(TuningError, match="No such file"):
        read_site(tmp_path / "b.json")


def test_the_command_exits_with_1_where_a_site_lags_and_tells_that_it_is_synthetic(tmp_path: Path) -> None:
    written = tmp_path / "found.json"
    done = CliRunner().invoke(app, ["tune", "--compare", str(OSLO), str(LYON), "--json", str(written)])
    assert done.exit_code == 1, done.output
    assert "lyon lags behind oslo" in done.output
    assert "SYNTHETIC" in done.output
    assert json.loads(written.read_bytes())["slower"] == "lyon"
    assert CliRunner().invoke(app, ["tune", "--compare", str(OSLO), str(TURIN)]).exit_code == 0


def test_the_command_wants_a_model_or_two_files_and_not_both() -> None:
    done = CliRunner().invoke(app, ["tune", "a:B", "--compare", str(OSLO), str(LYON)])
    assert done.exit_code != 0
    assert "a model to tune, or --compare with two files" in str(done.exception)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("oslo/tuning/cpu.json", "lyon/tuning/cpu.json", ("oslo", "lyon")),
        ("oslo/records/tunings/0a--1b.json", "lyon/records/tunings/0a--1b.json", ("oslo", "lyon")),
        ("here.json", "there/cpu.json", ("here", "cpu")),
        ("cpu.json", "lyon/cpu.json", (None, "lyon")),
        ("old/oslo/cpu.json", "new/oslo/cpu.json", ("old", "new")),
    ],
)
def test_files_of_one_name_are_told_apart_by_the_folders_that_differ(
    one: str, other: str, said: tuple[str | None, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for source, name in ((OSLO, one), (LYON, other)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(source.read_bytes())
    found = compare(read_site(Path(one)), read_site(Path(other)))
    assert (found.first, found.second) == (said[0] or tmp_path.name, said[1])
    assert found.slower == found.second
    assert found.notes[1].startswith(f"{found.second}: SYNTHETIC")


def test_a_file_compared_with_itself_has_its_name() -> None:
    found = compare(read_site(OSLO), read_site(OSLO))
    assert (found.first, found.second, found.slower) == ("oslo", "oslo", None)

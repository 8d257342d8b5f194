"""The registry on a real SQLite store: found again by digest, never half-registered, never between two champions."""

from __future__ import annotations

import dataclasses
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from regiolect import orchestrator
from regiolect.bundle.manifest import MANIFEST, BundleManifest, read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.cli.promote import promote
from regiolect.contracts import RegisteredEngine
from regiolect.errors import IntegrityError, RegistryError
from regiolect.integrity import digest_file
from regiolect.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry
from tests.unit.registry.store import client_of

pytestmark = pytest.mark.slow


def _kept(home: Path, region: str, path: str) -> Path:
    """A file of the one version of a region, where the store itself keeps it."""
    manifests = (home / "artifacts").rglob(MANIFEST)
    return next(each.parent for each in manifests if read_bundle(each.parent).region == region) / path


def _state(registry: Registry, region: str) -> dict[str, Any]:
    """All that a person could see of a region, less what names the region, the time or a random id."""
    client, name = client_of(registry), f"tiny-{region}"
    own = ("region", "bundle", "build_key", "policy")
    versions = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))
    experiment = client.get_experiment_by_name("regiolect/tiny")
    runs = client.search_runs([experiment.experiment_id], f"tags.region = '{region}'", order_by=["start_time"])
    files = []
    for run in runs:
        root = Path(client.download_artifacts(run.info.run_id, "model"))
        files.append(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))
    return {
        "aliases": dict(client.get_registered_model(name).aliases),
        "versions": [{key: value for key, value in each.tags.items() if key not in own} for each in versions],
        "own runs": [each.run_id for each in versions] == [run.info.run_id for run in runs],
        "runs": [(run.info.status, run.data.metrics) for run in runs],
        "files": files,
    }


def test_a_first_version_becomes_champion_and_says_what_it_is(registry, register):
    assert registry.champion("tiny", "first") is None
    made = register("first", b"one")
    assert (made.name, made.version, made.uri, made.champion) == ("tiny-first", 1, "models:/tiny-first/1", True)
    assert registry.champion("tiny", "first") == registry.by_alias("tiny-first", CHAMPION) == made
    client = client_of(registry)
    assert dict(client.get_registered_model("tiny-first").aliases) == {CHAMPION: 1}
    tags = client.get_model_version("tiny-first", "1").tags
    with registry.downloaded(made) as folder:
        manifest = read_bundle(folder)
        verify_bundle(folder, manifest)
        assert tags["bundle"] == digest_file(folder / MANIFEST)
    artifact = manifest.engines[0].engine
    assert tags["build_key"] == artifact.request.build_key
    assert tags["policy"] == manifest.policy
    assert (made.policy, made.targets) == (manifest.policy, ("cpu",))
    assert made.build_keys == (artifact.request.build_key,)
    expected = {"region": "first", "model": "tiny", "targets": "cpu", "precision": "FP32", "executed": "FP32 2"}
    decision = manifest.engines[0].decision
    figures = {name: str(getattr(decision, name)) for name in ("loss", "loss_upper", "threshold")}
    expected |= {"decision": "approved", "calibration": "none", **figures}
    assert {key: tags[key] for key in expected} == expected
    version = client.get_model_version("tiny-first", "1")
    for said in (
        "tiny for",
        "- **cpu**: FP32 through onnxruntime, FP32 2 kernels. Approved: accuracy 50.00 to 50.00 %, loss +0.00 pt",
        "limit 100, on 2 gate samples.",
        'mlflow.pyfunc.load_model("models:/tiny-first@champion")',
    ):
        assert said in version.description
    metrics = client.get_run(version.run_id).data.metrics
    assert {name.removeprefix("cpu.") for name in metrics} == {
        *("loss", "loss_upper", "threshold", "score", "reference_score"),
        *("speedup", "p50_ms", "p99_ms", "throughput", "size"),
    }


def test_the_former_champion_is_kept_as_previous(registry, register):
    versions = [register("line", content).version for content in (b"one", b"two", b"three")]
    assert versions == [1, 2, 3]
    assert dict(client_of(registry).get_registered_model("tiny-line").aliases) == {CHAMPION: 3, PREVIOUS: 2}


def test_a_challenger_stays_one_until_it_is_asked_to_be_champion(registry, register):
    register("wait", b"one")
    waiting = register("wait", b"two", champion=False)
    assert not waiting.champion
    assert registry.champion("tiny", "wait").version == 1
    assert registry.by_alias("tiny-wait", CHALLENGER) == waiting
    promoted = register("wait", b"two")
    assert (promoted.version, promoted.champion) == (2, True)
    assert dict(client_of(registry).get_registered_model("tiny-wait").aliases) == {CHAMPION: 2, PREVIOUS: 1}


def test_the_same_bundle_is_registered_once(registry, register):
    register("same", b"one")
    before = _state(registry, "same")
    again = register("same", b"one")
    assert (again.version, again.champion) == (1, True)
    assert register("same", b"one", champion=False).champion, "registering it again is no demotion"
    assert _state(registry, "same") == before


def test_registering_an_older_bundle_again_rolls_back(registry, register):
    for content in (b"one", b"two"):
        register("back", content)
    assert register("back", b"one").version == 1
    assert dict(client_of(registry).get_registered_model("tiny-back").aliases) == {CHAMPION: 1, PREVIOUS: 2}


def test_a_lost_artifact_is_mended_by_registering_again(home, register):
    made = register("lost", b"one")
    engine = _kept(home, "lost", "engines/cpu/engine.onnx")
    engine.unlink()
    assert register("lost", b"one") == made
    assert engine.read_bytes() == b"one"


def test_a_bundle_that_was_changed_is_not_registered(registry, bundles, tmp_path):
    manifest = bundles.write(tmp_path / "changed", bundles.artifact("changed"), region="changed")
    (tmp_path / "changed/engines/cpu/engine.onnx").write_bytes(b"other!")
    with pytest.raises(IntegrityError):
        registry.register(tmp_path / "changed", manifest, champion=True)
    other: BundleManifest = manifest.model_copy(update={"title": "Elsewhere"})
    with pytest.raises(IntegrityError):
        registry.register(tmp_path / "changed", other, champion=True)
    assert registry.champion("tiny", "changed") is None


def test_a_manifest_changed_in_the_store_is_noticed(home, registry, register):
    made = register("tampered", b"one")
    manifest = _kept(home, "tampered", MANIFEST)
    manifest.write_bytes(manifest.read_bytes().replace(b"Europe", b"Asia"))
    with pytest.raises(IntegrityError), registry.downloaded(made):
        pass


def test_the_engines_of_a_version_are_told_in_the_order_of_its_targets(registry, bundles, tmp_path):
    artifacts = [bundles.artifact("order", target, content=target.encode()) for target in ("zulu", "alpha")]
    manifest = bundles.write(tmp_path / "order", *artifacts, region="order")
    made = registry.register(tmp_path / "order", manifest, champion=True)
    assert registry.by_alias("tiny-order", CHAMPION) == made
    assert made.targets == ("zulu", "alpha")
    assert made.build_keys == tuple(artifact.request.build_key for artifact in artifacts)


def test_tags_that_somebody_rewrote_are_refused(registry, register):
    register("retagged", b"one")
    client_of(registry).set_model_version_tag("tiny-retagged", "1", "policy", "whatever")
    with pytest.raises(RegistryError, match="'whatever' in 'policy'"):
        registry.by_alias("tiny-retagged", CHAMPION)


def test_why_a_version_was_held_back_is_told_without_what_a_terminal_obeys(
    registry, register, home, monkeypatch, capsys
):
    made = register("held", b"one", champion=False)
    client_of(registry).set_registered_model_alias(made.name, CHALLENGER, str(made.version))
    client_of(registry).set_model_version_tag(made.name, str(made.version), "held", "worse\r\x1b[2Kall is well\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking_uri)
    monkeypatch.setenv("REGIOLECT_HOME", str(home / "own"))
    monkeypatch.setattr(orchestrator, "registration_lock", lambda settings: lambda name: nullcontext())
    promote("tiny", "held", "it is right all the same")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == rf"{made.uri} was held back: worse\r\u001b[2Kall is well\n"


def test_two_models_whose_names_meet_do_not_mix(registry, bundles, tmp_path):
    first, second = (dataclasses.replace(bundles, model=model) for model in ("meet", "meet-eu"))
    manifest = first.write(tmp_path / "first", first.artifact("eu-west"), region="eu-west")
    made = registry.register(tmp_path / "first", manifest, champion=True)
    other = second.write(tmp_path / "second", second.artifact("west"), region="west")
    with pytest.raises(RegistryError, match=r"model 'meet' in region 'eu-west'.*rename"):
        registry.register(tmp_path / "second", other, champion=True)
    with pytest.raises(RegistryError, match="rename"):
        registry.champion("meet-eu", "west")
    client = client_of(registry)
    assert registry.champion("meet", "eu-west") == made
    assert len(client.search_model_versions("name = 'meet-eu-west'")) == 1
    assert client.get_experiment_by_name("regiolect/meet-eu") is None, "nothing was written"


def test_reading_an_absent_database_makes_nothing(register, tmp_path):
    made = register("absent", b"one")
    home = tmp_path / "home"
    absent = Registry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
    assert absent.by_alias("tiny-absent", CHAMPION) is None
    with pytest.raises(RegistryError, match="release the region first"), absent.downloaded(made):
        pass
    assert not home.exists()


class Killed(BaseException):
    """What a killed process looks like from inside: nothing catches it."""


class Faulty:
    """A real MlflowClient that dies before its k-th call; before call k + 1 is after call k."""

    def __init__(self, client: Any, fatal: int) -> None:
        self._client, self._fatal, self.calls = client, fatal, 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self._fatal:
                raise Killed(name)
            return getattr(self._client, name)(*arguments, **options)

        return call


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.acceptance)])
def test_a_crash_at_any_call_leaves_a_champion_and_the_next_run_completes(home, registry, register, every):
    for content in (b"one", b"two"):
        register(f"calm-{every}", content)
    undisturbed = _state(registry, f"calm-{every}")
    assert undisturbed["aliases"] == {CHAMPION: 2, PREVIOUS: 1}
    for fatal in itertools.count(1, every):
        region = f"crash-{fatal}-of-{every}"
        register(region, b"one")

        def faulty(uri: str, fatal: int = fatal) -> Any:
            return Faulty(client_of(registry), fatal)

        try:
            register(region, b"two", by=Registry(registry.tracking_uri, home / "artifacts", faulty))
        except Killed:
            champion = registry.champion("tiny", region)
            assert champion is not None
            with registry.downloaded(champion) as folder:
                verify_bundle(folder, read_bundle(folder))
        else:
            break
        assert register(region, b"two").champion
        assert _state(registry, region) == undisturbed, f"after a crash at call {fatal}"
    assert fatal > 12, "the faults were injected into the registration"


def test_a_crash_in_the_middle_of_the_upload_is_completed(home, registry, register):
    class Torn(Faulty):
        def log_artifacts(self, run_id: str, folder: str, path: str) -> None:
            self._client.log_artifacts(run_id, f"{folder}/data/bundle/engines", f"{path}/data/bundle/engines")
            raise Killed

    torn = Registry(registry.tracking_uri, home / "artifacts", lambda uri: Torn(client_of(registry), 0))
    with pytest.raises(Killed):
        register("torn", b"one", by=torn)
    assert registry.champion("tiny", "torn") is None
    made = register("torn", b"one")
    with registry.downloaded(made) as folder:
        verify_bundle(folder, read_bundle(folder))
    assert len(_state(registry, "torn")["runs"]) == 1


def test_what_two_registrations_at_once_left_is_tidied_by_the_next(registry, register):
    register("twice", b"one")
    before = _state(registry, "twice")
    client = client_of(registry)
    first = client.get_model_version("tiny-twice", "1")
    experiment = client.get_run(first.run_id).info.experiment_id
    second = client.create_run(experiment, tags={"bundle": first.tags["bundle"], "region": "twice"}).info.run_id
    client.create_run(experiment, tags={"bundle": first.tags["bundle"], "region": "twice"})
    # One that shares the run of the first, and one with a run of its own.
    for run in (first.run_id, second):
        client.create_model_version("tiny-twice", first.source, run, tags=first.tags)
    assert register("twice", b"one").version == 1
    assert _state(registry, "twice") == before


def test_a_version_that_an_alias_points_at_is_not_removed(registry, register):
    register("pinned", b"one")
    client = client_of(registry)
    first = client.get_model_version("tiny-pinned", "1")
    experiment = client.get_run(first.run_id).info.experiment_id
    run = client.create_run(experiment, tags={"bundle": first.tags["bundle"], "region": "pinned"}).info.run_id
    client.create_model_version("tiny-pinned", first.source, run, tags=first.tags)
    client.set_registered_model_alias("tiny-pinned", "frozen", "2")
    assert register("pinned", b"one").version == 1
    assert client.get_model_version_by_alias("tiny-pinned", "frozen").run_id == run
    assert client.get_run(run).info.lifecycle_stage == "active"


def test_the_question_whether_to_replace_is_asked_with_the_champion_in_view(registry, bundles, tmp_path):
    asked = []

    def never(champion: RegisteredEngine | None) -> bool:
        asked.append(champion)
        return champion is None

    made = []
    for content in (b"one", b"two"):
        folder = tmp_path / content.decode()
        manifest = bundles.write(folder, bundles.artifact("asked", content=content), region="asked")
        made.append(registry.register(folder, manifest, never))
    assert asked == [None, made[0]]
    assert [each.champion for each in made] == [True, False]


def test_regions_that_finish_together_are_all_registered(registry, bundles, tmp_path):
    regions = [f"side-{number}" for number in range(6)]
    written = {}
    for region in regions:
        written[region] = bundles.write(tmp_path / region, bundles.artifact(region), region=region)
    jobs = regions * 2  # each twice: the same bundle at the same time is still one version
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda region: registry.register(tmp_path / region, written[region], True), jobs))
    assert [(each.name, each.version, each.champion) for each in made] == [(f"tiny-{r}", 1, True) for r in jobs]
    assert all(_state(registry, region)["versions"].__len__() == 1 for region in regions)


def test_a_report_is_kept_with_its_figures(registry, tmp_path):
    report = tmp_path / "report.html"
    report.write_text("<p>nine regions</p>")
    uri = registry.log_report("tiny", report, {"regions": 9, "approved": 8})
    assert Path(uri.removeprefix("file://")).read_text() == "<p>nine regions</p>"


def test_telemetry_is_off_once_mlflow_is_loaded(registry):
    registry.champion("tiny", "eu")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["DO_NOT_TRACK"]

"""Of a version no more is fetched than its manifest says, and nothing that is no file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from mlflow.entities import FileInfo

from regiolect.errors import RegistryError, UnusableFile
from regiolect.registry.fetching import fetch_bytes, fetch_folder
from regiolect.registry.live import stored_at
from tests.unit.registry.store import client_of

pytestmark = pytest.mark.slow


@pytest.mark.timeout(60)
@pytest.mark.parametrize("put", ["sparse", "device", "pipe"])
def test_what_is_no_file_of_the_bundle_is_not_copied(registry, register, put: str) -> None:
    made = register(f"large{put}", b"engine")
    source = client_of(registry).get_model_version(made.name, str(made.version)).source
    (results,) = Path(source.removeprefix("file://")).glob("data/bundle/results/*.csv")
    results.chmod(0o600)
    results.unlink()
    if put == "sparse":
        results.touch()
        os.truncate(results, 10 << 30)
    elif put == "pipe":
        os.mkfifo(results)
    else:
        results.symlink_to("/dev/zero")
    with pytest.raises(RegistryError, match=r"10,737,418,240 bytes|a device|a named pipe"):
        registry.read(made, f"results/{results.name}")
    with pytest.raises(RegistryError, match=r"10,737,418,240 bytes|a device|a named pipe"), registry.downloaded(made):
        pytest.fail("it was copied")


def test_what_a_server_tells_to_be_too_large_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        def list_artifacts(self, path: str | None) -> list[FileInfo]:
            return [FileInfo("data/bundle/results/cpu.csv", False, 10 << 30)] if path == "data/bundle/results" else []

        def download_artifacts(self, artifact_path: str, dst_path: str) -> str:
            raise AssertionError("it was fetched")

    monkeypatch.setattr("regiolect.registry.fetching.artifacts_at", lambda *_: Server())
    with pytest.raises(UnusableFile, match="10,737,418,240 bytes"):
        fetch_bytes("s3://bucket/model", "http://server", "data/bundle/results/cpu.csv", tmp_path, 1 << 28)
    with pytest.raises(UnusableFile, match="at most 7 bytes at data/bundle/results/cpu"):
        fetch_folder("s3://bucket/model", "http://server", "data/bundle/results", tmp_path, lambda path: 7)


def test_an_audit_fetches_nothing_of_a_version_with_a_file_larger_than_its_manifest_says(
    bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.write(tmp_path / "model" / "data" / "bundle")

    class Server:
        def list_artifacts(self, path: str | None) -> list[FileInfo]:
            return [
                FileInfo(each.relative_to(tmp_path / "model").as_posix(), each.is_dir(), self.size(each))
                for each in (tmp_path / "model" / (path or "")).iterdir()
            ]

        def size(self, file: Path) -> int:
            return file.stat().st_size + (file.suffix == ".csv")

        def download_artifacts(self, artifact_path: str, dst_path: str) -> str:
            assert artifact_path == "data/bundle/manifest.json", "more was fetched"
            return str(shutil.copy(tmp_path / "model" / artifact_path, dst_path))

    for module in ("fetching", "live"):
        monkeypatch.setattr(f"regiolect.registry.{module}.artifacts_at", lambda *_: Server())
    with (
        pytest.raises(UnusableFile, match=r"at data/bundle/results/cpu\.csv; found"),
        stored_at("s3://bucket/model", "http://server"),
    ):
        pytest.fail("it was fetched")

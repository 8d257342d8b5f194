"""What lies at a file's place and is none, or is far too large, is refused by name, at once and without reading it."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regiolect.bundle.decisions import verify_decisions
from regiolect.bundle.manifest import MANIFEST, decision_path, read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.contracts import Blob
from regiolect.data import read_index, read_parts, read_samples
from regiolect.engines.files import verified_bytes
from regiolect.engines.tensorrt.caches import MachineCache
from regiolect.errors import IntegrityError, InvalidBundle, RegiolectError, UnusableFile
from regiolect.evaluate.results import PairedResults
from regiolect.graphs.protos import load
from regiolect.host.files import open_file, read_file
from regiolect.integrity import digest_bytes, verify_file
from regiolect.policy import PolicyBook
from regiolect.registry.beside import require_obedient
from regiolect.servers.credentials import keep_credentials
from regiolect.servers.state import State, read_state
from regiolect.serving.bundles import require_origin
from regiolect.signing.keys import load_key
from regiolect.signing.trust import Trust, load_trust
from regiolect.storage import LocalStore
from regiolect.tune.compare import read_site

GIB = 1 << 30
CONTENT = b"some content"
BLOB = Blob(uri="", digest=digest_bytes(CONTENT), size=len(CONTENT))


def _policy(path: Path) -> Any:
    return PolicyBook(path.parent).load(path.stem)


def _record(path: Path) -> Any:
    return LocalStore(path.parents[2]).get_record("states", path.stem, State)  # type: ignore[type-var]


def _kept(path: Path) -> Any:
    return LocalStore(path.parents[2]).path_of(BLOB)


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a policy": ("eu.yaml", _policy),
    "a bundle's manifest": (MANIFEST, lambda path: read_bundle(path.parent)),
    "a record": ("records/states/some.json", _record),
    "content of a store": (f"blobs/{BLOB.digest[7:9]}/{BLOB.digest[7:]}", _kept),
    "content of a digest": ("content", lambda path: verify_file(path, BLOB.digest, BLOB.size)),
    "a file of an engine": ("engine.onnx", lambda path: verified_bytes(path, BLOB)),
    "MLflow's description": ("MLmodel", lambda path: require_obedient(path.parent, None)),
    "MLflow's note": ("registered_model_meta", lambda path: require_origin(path.parent / "a" / "b", Trust())),
    "a signing key": ("signing-key.pem", load_key),
    "a trust file": ("trust.json", load_trust),
    "samples": ("samples.npz", read_samples),
    "the ids of samples": ("samples.npz", read_index),
    "parts of samples": ("samples.npz", lambda path: list(read_parts(path, [(0, 1)]))),
    "a graph": ("model.onnx", load),
    "per-sample results": ("results.csv", PairedResults.from_csv),
    "a tuning": ("tuning.json", read_site),
    "the servers' state": ("state.json", read_state),
    "the servers' credentials": ("credentials.json", keep_credentials),
}


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 10 * GIB)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.fixture
def little_memory() -> Iterator[None]:
    """What would read ten gigabytes fails for want of memory long before this machine does."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


ODD = pytest.mark.parametrize("put", [_pipe, _device, _sparse, _folder], ids=lambda put: put.__name__)


@pytest.mark.timeout(30)
@pytest.mark.usefixtures("little_memory")
@ODD
@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_file_of_its_kind_is_refused_by_name(tmp_path: Path, kind: str, put: Callable[[Path], None]) -> None:
    name, read = READERS[kind]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path)
    with pytest.raises(RegiolectError) as refused:
        read(path)
    assert path.name in refused.value.expected or str(path.parent) in refused.value.expected
    assert refused.value.remedy


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("little_memory")
@ODD
def test_no_file_of_a_bundle_may_be_anything_else(
    bundles: Any, keyring: Any, tmp_path: Path, put: Callable[[Path], None]
) -> None:
    folder = tmp_path / "bundle"
    manifest = bundles.write(folder)
    for name, _ in manifest.files():
        path = folder / name
        content = path.read_bytes()
        path.unlink()
        put(path)
        with pytest.raises(IntegrityError, match=path.name):
            verify_bundle(folder, manifest)
        if name == decision_path("cpu"):
            with pytest.raises(InvalidBundle, match=path.name):
                verify_decisions(folder, manifest, keyring.load_trust())
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(content)
    verify_bundle(folder, manifest)


@pytest.mark.timeout(30)
@pytest.mark.usefixtures("little_memory")
@ODD
def test_a_cache_that_is_no_file_is_no_cache(tmp_path: Path, put: Callable[[Path], None]) -> None:
    cache = MachineCache("timing", {"device": "some"}, tmp_path)
    put(cache.path)
    assert cache.load() is None


def test_a_file_is_read_through_links_and_up_to_its_bound(tmp_path: Path) -> None:
    # As Kubernetes mounts a secret.
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "key").write_bytes(CONTENT)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "key").symlink_to("..data/key")
    assert read_file(tmp_path / "key", len(CONTENT)) == CONTENT
    with pytest.raises(UnusableFile, match=r"at most 11 bytes at .*key; found 12 bytes"):
        read_file(tmp_path / "key", len(CONTENT) - 1)
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "none")


def test_what_has_no_size_is_bounded_too() -> None:
    # A file that the kernel makes up while it is read.
    with pytest.raises(UnusableFile, match="more than 10 bytes"):
        read_file(Path("/proc/cpuinfo"), 10)

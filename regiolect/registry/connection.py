"""An MLflow store: opened once, by one process at a time, and its vendors' errors named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from regiolect.errors import RegistryError
from regiolect.errors.redaction import redacted_address, showable
from regiolect.host.waiting import alone
from regiolect.network import one_line, require_answer
from regiolect.registry.database import is_database, one_opens, remedy, sqlite_file
from regiolect.registry.mlflow_settings import quiet_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

ClientFactory = Callable[[str], "MlflowClient"]

_LOCK_SECONDS = 300.0
_PROBE_SECONDS = 5.0
_VENDOR_ERRORS = (
    ("mlflow.exceptions", "MlflowException"),
    ("sqlalchemy.exc", "SQLAlchemyError"),
    ("alembic.util", "CommandError"),
    # Of artifacts in S3, which MLflow reaches without wrapping them.
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
)


def mlflow_client(tracking_uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


class Connection:
    """One MLflow tracking URI.

    Attributes:
        uri: as given, with its password.
        shown: without its password.
        database: the file of a SQLite store, or None.
        artifacts: the folder for artifacts where no server decides that, or None for MLflow's own choice.
    """

    def __init__(self, uri: str, artifact_root: Path | None, factory: ClientFactory) -> None:
        self.uri = uri
        self.shown = redacted_address(uri)
        self.database = sqlite_file(uri)
        if artifact_root is None and self.database is not None:
            artifact_root = self.database.parent / "mlartifacts"
        self.artifacts = artifact_root.absolute() if artifact_root is not None and is_database(uri) else None
        self._factory = factory
        self._opened: MlflowClient | None = None
        self._opening = threading.Lock()

    def is_absent(self) -> bool:
        """Whether there is no database, or one without anything in it, which MLflow would fill with empty tables."""
        return self.database is not None and not (self.database.exists() and self.database.stat().st_size)

    def open(self) -> MlflowClient:
        """The client of a store that answered; the first call makes the tables of an empty database.

        Raises:
            RegistryError: nothing answers, or the database is damaged or of another version of MLflow.
        """
        with self._opening:
            if self._opened is None:
                quiet_mlflow()
                with self.named_errors(f"an MLflow registry at {self.shown}"), ExitStack() as stack:
                    stack.enter_context(self.one_at_a_time())
                    # MLflow makes missing tables without a look at others: of four processes three would fail.
                    stack.enter_context(one_opens(self.uri, _LOCK_SECONDS))
                    if self.uri.startswith(("http://", "https://")):
                        # MLflow itself would try for minutes.
                        require_answer(f"{self.uri.rstrip('/')}/health", _PROBE_SECONDS)
                    client = self._factory(self.uri)
                    client.search_experiments(max_results=1)
                    client.search_registered_models(max_results=1)
                    self._opened = client
            return self._opened

    def one_at_a_time(self) -> AbstractContextManager[object]:
        """Excludes other threads and processes from a SQLite store; nobody from any other."""
        if self.database is None:
            return nullcontext()
        self.database.parent.mkdir(parents=True, exist_ok=True)
        lock = self.database.with_name(f"{self.database.name}.lock")
        return alone(lock, f"to be alone at {self.database}", _LOCK_SECONDS, RegistryError)

    @contextmanager
    def named_errors(self, wanted: str) -> Iterator[None]:
        """Makes a RegistryError of what MLflow and the libraries below it raise. `wanted` is what was expected."""
        try:
            yield
        except ImportError as error:
            raise RegistryError(
                expected=wanted,
                found=f"{error} ({type(error).__name__})",
                remedy="pip install 'regiolect[registry]'; for a database other than SQLite also the driver named here",
            ) from error
        except _vendor_errors() as error:
            text = str(error).strip() or type(error).__name__
            mend = remedy(text, self.uri)
            raise RegistryError(expected=wanted, found=one_line(text), remedy=mend) from showable(error)


def _vendor_errors() -> tuple[type[Exception], ...]:
    """What cannot be imported has not raised anything."""
    # SQLAlchemy raises a bare ValueError for an address whose port is no number.
    errors: list[type[Exception]] = [OSError, ValueError]
    for module, name in _VENDOR_ERRORS:
        with suppress(ImportError):
            errors.append(getattr(import_module(module), name))
    return tuple(errors)

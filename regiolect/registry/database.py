"""A database that several processes, on one machine or many, open for the first time together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from regiolect.errors import RegistryError
from regiolect.errors.redaction import redacted_address
from regiolect.host.waiting import patiently

_DIALECTS = ("mssql", "mysql", "postgresql", "sqlite")
# Any number will do that no other user of advisory locks in the same database takes: "regiolec" in ASCII.
_KEY = int.from_bytes(b"regiolec")
_LOCK_NOT_AVAILABLE = "55P03"
# The two halves of a key are columns of their own.
_HOLDERS = """
SELECT format('backend %s of the database (from %s) holds it since %s UTC', pid,
              coalesce(host(client_addr), 'its own machine'), to_char(xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS'))
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) | objid::bigint = :key
"""


def is_database(uri: str) -> bool:
    """Whether an address is one that SQLAlchemy opens, and no server in front of a database."""
    return _dialect(uri) in _DIALECTS


def _dialect(uri: str) -> str:
    return uri.partition("://")[0].partition("+")[0]


@contextmanager
def one_opens(uri: str, seconds: float) -> Iterator[None]:
    """Lets one process in at a time, whatever machine it is on, while it opens a database and makes its tables.

    A process that dies lets the next one in. Works on PostgreSQL; elsewhere nobody is held back, and such a database is
    best made beforehand by one process.

    Args:
        uri: a SQLAlchemy address; a server's is let through.
        seconds: the longest wait.

    Raises:
        RegistryError: `seconds` went by.
        sqlalchemy.exc.SQLAlchemyError: no connection.
    """
    if _dialect(uri) != "postgresql":
        yield
        return
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import NullPool

    with create_engine(uri, poolclass=NullPool).begin() as connection:

        def take(seconds: float) -> bool:
            wait = {"wait": f"{int(seconds * 1000)}ms"}
            connection.execute(text("SELECT set_config('lock_timeout', :wait, true)"), wait)
            try:
                with connection.begin_nested():
                    # Held by the transaction rather than the session: a pooler in front of the server may share
                    # sessions out.
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _KEY})
            except OperationalError as error:
                if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
                    raise
                return False
            return True

        def whom() -> str:
            return "; ".join(connection.execute(text(_HOLDERS), {"key": _KEY}).scalars())

        what = "to be alone at a database that is opened for the first time"
        patiently(take, what, seconds, whom, partial(_busy, what, seconds))
        yield


def _busy(what: str, seconds: float, found: str) -> RegistryError:
    return RegistryError(
        expected=f"{what} within {seconds:g} s", found=found, remedy="run again when that one has made its tables"
    )


def sqlite_file(uri: str) -> Path | None:
    """The file of a `sqlite:///<file>` address; None for a server's address or a database in memory."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(match[1]).absolute() if match and match[1] != ":memory:" else None


def remedy(text: str, uri: str) -> str:
    """What to do about a vendor's error `text` from the registry at `uri`."""
    database = sqlite_file(uri)
    if "mlflow db upgrade" in text:
        return f"back the database up, then: mlflow db upgrade {redacted_address(uri)}"
    if database is not None:
        return (
            f"if {database} is damaged, restore it from a backup or move it aside (a new one is made); "
            "check free space and permissions; then run again, which completes what was begun"
        )
    return "start the server or correct MLFLOW_TRACKING_URI, then run again, which completes what was begun"

"""A database that several processes, on one machine or many, open for the first time together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_DIALECTS = ("mssql", "mysql", "postgresql", "sqlite")
# Any number will do that no other user of advisory locks in the same database takes: "regiolec" in ASCII.
_KEY = int.from_bytes(b"regiolec")


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
        sqlalchemy.exc.SQLAlchemyError: no connection, or `seconds` went by.
    """
    if _dialect(uri) != "postgresql":
        yield
        return
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    with create_engine(uri, poolclass=NullPool).begin() as connection:
        connection.execute(text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": f"{int(seconds * 1000)}ms"})
        # Held by the transaction rather than the session: a pooler in front of the server may share sessions out.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _KEY})
        yield

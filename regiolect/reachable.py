"""Where a server's or registry's address leads, and what to say when nothing answers there."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from regiolect.errors import OrchestratorError
from regiolect.errors.output import printable
from regiolect.errors.redaction import redacted, redacted_address, showable, without_userinfo

_PROBE_SECONDS = 5.0


def sqlite_file(uri: str) -> Path | None:
    """The file of a `sqlite:///<file>` address; None for a server's address or a database in memory."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(match[1]).absolute() if match and match[1] != ":memory:" else None


def require_answer(url: str, seconds: float) -> None:
    """Ask an http or https URL once; any answer will do, whatever its status. Proxies of the environment are used.

    User and password in the URL are not sent.

    Raises:
        OSError: nothing answered within `seconds`, or the URL cannot be one. A certificate that does not verify is an
            answer: whoever talks to the server has settings of its own for that.
    """
    try:
        urllib.request.urlopen(without_userinfo(url), timeout=seconds).close()  # noqa: S310 - the caller passes http or https only
    except (ValueError, http.client.InvalidURL) as error:
        raise OSError(f"no usable address: {error}") from error
    except (urllib.error.HTTPError, http.client.HTTPException):
        return
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):
            raise


def require_prefect(server: str, otherwise: str) -> None:
    """Ask the Prefect server at PREFECT_API_URL once whether it is there.

    Args:
        otherwise: what can be done without a server, the end of the remedy.

    Raises:
        OrchestratorError: nothing answers.
    """
    try:
        require_answer(f"{server.rstrip('/')}/health", _PROBE_SECONDS)
    except (OSError, ValueError) as error:
        raise OrchestratorError(
            expected=f"a Prefect server at PREFECT_API_URL={redacted_address(server)}",
            found=redacted(str(error)),
            remedy=f"start it, correct the address, or {otherwise}",
        ) from showable(error)


def one_line(text: str) -> str:
    """What a vendor's error says in its first line, without passwords, `printable`; SQLAlchemy and MLflow add pages."""
    line = printable(redacted(next(iter(text.splitlines()), "").strip()))
    return line if len(line) <= 300 else f"{line[:300]} ..."


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

"""Where a server's or registry's address leads, and what to say when nothing answers there."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request

from regiolect.errors import OrchestratorError
from regiolect.errors.output import printable
from regiolect.errors.redaction import redacted, redacted_address, showable, without_userinfo

_PROBE_SECONDS = 5.0


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

"""Whether a server answers at all, asked once and with a short limit."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request


def require_answer(url: str, seconds: float) -> None:
    """Ask an http or https URL once; any answer will do, whatever its status. Proxies of the environment are used.

    Raises:
        OSError: nothing answered within `seconds`. A certificate that does not verify is an answer: whoever talks to
            the server has settings of its own for that.
    """
    try:
        urllib.request.urlopen(url, timeout=seconds).close()  # noqa: S310 - the caller passes http or https only
    except (urllib.error.HTTPError, http.client.HTTPException):
        return
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):
            raise

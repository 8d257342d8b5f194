"""Ports of 127.0.0.1: a server's usual one when it is free, else another free one."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Collection, Mapping

from regiolect.errors import ServerFailed

HOST = "127.0.0.1"
# Below the range from which systems take ports for outgoing connections: one that is remembered stays likely free.
_LOWEST, _HIGHEST = 20_000, 32_000
_TRIES = 200
# How long the ports of a server that has just died are waited for.
_SETTLE_SECONDS = 2.0


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of the last one that linger do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def becomes_free(port: int) -> bool:
    """Whether a server could listen on `port`, now or when the last one there has quite ended."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def choose_ports(
    wanted: Mapping[str, int], taken: Collection[int], suits: Callable[[int], bool] = is_free
) -> dict[str, int]:
    """A free port for every use.

    Args:
        wanted: for every use, the port to take if it suits.
        taken: ports that are not to be used although they may be free now.
        suits: whether a wanted port can be used.

    Raises:
        ServerFailed: no free port was found.
    """
    chosen: dict[str, int] = {}
    for use, port in wanted.items():
        used = {*taken, *chosen.values()}
        chosen[use] = port if port not in used and suits(port) else _any_free(used)
    return chosen


def _any_free(used: Collection[int]) -> int:
    for _ in range(_TRIES):
        port = random.randint(_LOWEST, _HIGHEST)  # noqa: S311 - not a secret
        if port not in used and is_free(port):
            return port
    raise ServerFailed(
        expected=f"a free port between {_LOWEST} and {_HIGHEST} on {HOST}",
        found=f"none in {_TRIES} tries",
        remedy="stop what listens on so many ports",
    )

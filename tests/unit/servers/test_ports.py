from __future__ import annotations

import socket
from contextlib import closing

import pytest

from regiolect.servers.ports import HOST, choose_ports, is_free


@pytest.mark.parametrize("host", [HOST, ""])
def test_a_taken_port_is_not_free_wherever_its_owner_listens(host: str) -> None:
    with closing(socket.create_server((host, 0))) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
        assert choose_ports({"http": port}, ())["http"] != port
    assert is_free(port)


def test_no_port_is_given_twice() -> None:
    chosen = choose_ports({"one": 21_111, "two": 21_111, "three": 21_112}, taken=(21_112,))
    assert len(set(chosen.values())) == 3
    assert chosen["three"] != 21_112


def test_usual_ports_can_be_left_alone() -> None:
    assert choose_ports({"http": 21_113}, (), lambda _: False)["http"] != 21_113

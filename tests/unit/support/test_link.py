"""The link does to bytes what it says: a test that rests on ``cut`` or on a rate rests on this."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.link import Link


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that sends back what it gets, until the client ends its half."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def ask(link: Link, data: bytes, timeout_s: float = 5.0) -> bytes:
    with socket.create_connection(("127.0.0.1", link.port), timeout=timeout_s) as client:
        return exchange(client, data)


def exchange(client: socket.socket, data: bytes) -> bytes:
    sender = threading.Thread(target=client.sendall, args=(data,), daemon=True)
    sender.start()
    answer = bytearray()
    while len(answer) < len(data) and (piece := client.recv(65536)):
        answer += piece
    return bytes(answer)


def test_bytes_pass_unchanged_and_are_counted_each_way(echo_port: int) -> None:
    data = bytes(range(256)) * 4096
    with Link(echo_port) as link:
        assert ask(link, data) == data
        assert ask(link, b"x") == b"x"
        assert (link.traffic.down_bytes, link.traffic.connections) == (len(data) + 1, 2)
        assert link.traffic.up_bytes == len(data) + 1


def test_an_answer_takes_a_round_trip_after_the_handshakes(echo_port: int) -> None:
    with Link(echo_port, rtt_s=0.05) as link, socket.create_connection(("127.0.0.1", link.port), timeout=5) as client:
        exchange(client, b"a")
        started = time.monotonic()
        exchange(client, b"b")
        assert 0.05 <= time.monotonic() - started < 0.5


def test_all_connections_share_one_rate(echo_port: int) -> None:
    with Link(echo_port, rate_bytes_per_s=2e6) as link:
        started = time.monotonic()
        clients = [threading.Thread(target=ask, args=(link, bytes(200_000))) for _ in range(2)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert time.monotonic() - started >= 0.2


def test_a_cut_link_is_silent_and_delivers_when_joined(echo_port: int) -> None:
    with Link(echo_port) as link, socket.create_connection(("127.0.0.1", link.port), timeout=5) as client:
        exchange(client, b"a")
        link.cut()
        client.settimeout(0.1)
        client.sendall(b"b")
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(5)
        link.join()
        assert client.recv(1) == b"b"


def test_a_refusing_link_resets_and_refuses_until_joined(echo_port: int) -> None:
    with Link(echo_port) as link:
        with socket.create_connection(("127.0.0.1", link.port), timeout=5) as client:
            exchange(client, b"a")
            link.refuse()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            ask(link, b"b")
        link.join()
        assert ask(link, b"c") == b"c"


def test_reset_spares_new_connections(echo_port: int) -> None:
    with Link(echo_port) as link:
        with socket.create_connection(("127.0.0.1", link.port), timeout=5) as client:
            exchange(client, b"a")
            link.reset()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert ask(link, b"b") == b"b"


def test_reset_after_breaks_an_answer_in_its_middle(echo_port: int) -> None:
    with Link(echo_port) as link:
        ask(link, bytes(50_000))
        link.reset_after(100_000)
        # The reset may overtake bytes that the client has not read yet, but never lets more through.
        with pytest.raises(ConnectionError):
            ask(link, bytes(200_000))
        assert link.traffic.down_bytes == 150_000
        link.join()
        assert ask(link, b"b") == b"b"

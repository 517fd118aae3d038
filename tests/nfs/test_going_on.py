"""Clients go on after a gateway or nfs-ganesha was killed: a delay, no error, nothing lost, no stale handle."""

import os
import threading
import time

import pytest

from tests.nfs.conftest import Serve, Served

WRITES_BETWEEN = 50


@pytest.fixture(scope="module")
def served(serve: Serve) -> Served:
    return serve()


@pytest.mark.semantics("nfs-goes-on")
def test_a_client_under_load_sees_kills_as_delays(served: Served) -> None:
    gateway, server = served
    written: list[int] = []
    stop = threading.Event()

    def load() -> None:
        """One file held open throughout, and a new one for every tenth write."""
        client = server.mount("/share", version=3, uid=1000, gid=1000)
        with client.open("/held", os.O_RDWR | os.O_CREAT) as held:
            while not stop.is_set():
                number = len(written)
                held.write(number * 8, b"%08d" % number)
                held.sync()
                assert held.read(0, 8) == b"00000000"
                if number % 10 == 0:
                    client.write(f"/new{number}", b"%08d" % number)
                written.append(number)

    def wait_for_progress(what: str) -> None:
        before, deadline = len(written), time.monotonic() + 60
        while len(written) < before + WRITES_BETWEEN:
            assert worker.is_alive(), f"the client gave up after {what}:\n{server.log_tail()}"
            assert time.monotonic() < deadline, f"no progress after {what}:\n{server.log_tail()}"
            time.sleep(0.05)

    worker = threading.Thread(target=server.inside, args=[load], daemon=True)
    worker.start()
    wait_for_progress("the start")
    device = os.stat(gateway.mount_dir).st_dev
    gateway.kill9()
    gateway.start()
    wait_for_progress("the kill of the gateway")
    assert os.stat(gateway.mount_dir).st_dev == device
    ganesha = server.ganesha()
    assert ganesha is not None
    os.kill(ganesha, 9)
    wait_for_progress("the kill of nfs-ganesha")
    gateway.terminate()
    gateway.start()
    wait_for_progress("an orderly restart of the gateway")
    stop.set()
    worker.join(60)
    assert not worker.is_alive()
    held = (gateway.mount_dir / "held").read_bytes()
    assert held == b"".join(b"%08d" % number for number in written)
    for number in written[::10]:
        assert (gateway.mount_dir / f"new{number}").read_bytes() == b"%08d" % number

"""The control socket, over a real socket: every kind of client, good and bad."""

import json
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from gatewayfs.control import client, protocol
from gatewayfs.control import server as server_module
from gatewayfs.control.server import ControlServer, Handler, Progress, peer_uid
from gatewayfs.errors import StoreUnreachable, UserError


async def echo(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
    return args


@asynccontextmanager
async def serving(path: Path, handlers: Mapping[str, Handler], **options: Any) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(path, handlers, **options).serve)
        yield
        nursery.cancel_scope.cancel()


async def call(path: Path, name: str, args: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return await trio.to_thread.run_sync(lambda: client.call(path, name, args, **options))


async def raw(path: Path, sent: bytes) -> dict[str, Any]:
    """What the server answers to these very bytes."""
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        await stream.send_all(sent)
        received = b""
        try:
            async for chunk in stream:
                received += chunk
        except trio.BrokenResourceError:
            pass  # the server closed without reading all of what it refused
    return dict(json.loads(received))


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("c") / "s.sock"
    assert len(str(made)) < server_module.SOCKET_PATH_BYTES_MAX
    return made


async def test_a_call_gets_its_result_and_the_socket_goes_with_the_server(path: Path) -> None:
    async with serving(path, {"echo": echo}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await call(path, "echo", {"a": [1, "ü", None]}) == {"a": [1, "ü", None]}
        assert await call(path, "echo") == {}
    assert not path.exists()


async def test_a_large_answer_comes_through_whole(path: Path) -> None:
    async def large(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        return {"problems": ["x" * 100] * 50_000}

    async with serving(path, {"large": large}):
        assert len((await call(path, "large"))["problems"]) == 50_000


async def test_progress_arrives_before_the_result_and_the_newest_is_not_lost(path: Path) -> None:
    async def drain(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        for left in range(1000, -1, -1):
            progress({"left": left})
            if left % 250 == 0:
                await trio.testing.wait_all_tasks_blocked()
        return {"done": True}

    seen: list[Any] = []
    async with serving(path, {"drain": drain}):
        assert await call(path, "drain", progress=seen.append) == {"done": True}
    lefts = [frame["left"] for frame in seen]
    assert lefts == sorted(lefts, reverse=True)
    assert lefts[-1] == 0


@pytest.mark.parametrize(
    "sent, message",
    [
        (b"hello\n", "not a request"),
        (b'{"v": 1}\n', "not a request"),
        (b'{"v": 1, "call": "echo", "args": []}\n', "not a request"),
        (b'{"v": 1, "call": "echo", "extra": 1}\n', "not a request"),
        (b"\xff\xfe\n", "not a request"),
        (b'{"v": 2, "call": "echo"}\n', "speaks version 1 of the control protocol, the request is version 2"),
        (b'{"v": 1, "call": "fly"}\n', "has no call named 'fly'"),
        (b'{"v": 1, "call": "echo"' + b" " * protocol.REQUEST_BYTES_MAX, "at most"),
    ],
)
async def test_what_is_no_request_is_refused_in_one_line(sent: bytes, message: str, path: Path) -> None:
    async with serving(path, {"echo": echo}):
        answer = await raw(path, sent)
        assert answer["ok"] is False
        assert message in answer["error"]["message"]
        assert await call(path, "echo", {"still": "serving"}) == {"still": "serving"}


async def test_a_request_that_ends_early_is_refused(path: Path) -> None:
    async with serving(path, {"echo": echo}):
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(b'{"v": 1')
        await stream.send_eof()
        assert b"the request has no end" in await stream.receive_some()
        await stream.aclose()


async def test_a_client_that_never_finishes_its_request_is_sent_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_S_MAX", 0.05)
    async with serving(path, {"echo": echo}):
        answer = await raw(path, b'{"v": 1')
        assert "no request came within" in answer["error"]["message"]


async def test_another_user_is_refused_by_the_kernels_word(path: Path) -> None:
    async with serving(path, {"echo": echo}, peer_uid=lambda stream: os.geteuid() + 4242):
        answer = await raw(path, b'{"v": 1, "call": "echo"}\n')
        assert "may not control this gateway" in answer["error"]["message"]
    seen: list[int] = []

    def noted(stream: trio.SocketStream) -> int:
        seen.append(peer_uid(stream))
        return seen[-1]

    async with serving(path, {"echo": echo}, peer_uid=noted):
        await call(path, "echo")
    assert seen == [os.geteuid()]


async def test_errors_meant_for_people_arrive_as_they_are(path: Path) -> None:
    async def refuse(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        raise UserError("two refreshes are running", "wait for one", exit_code=7)

    async def unreachable(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        raise StoreUnreachable("no route to host")

    async with serving(path, {"refuse": refuse, "unreachable": unreachable}):
        with pytest.raises(UserError, match="two refreshes are running") as caught:
            await call(path, "refuse")
        assert (caught.value.cure, caught.value.exit_code) == ("wait for one", 7)
        with pytest.raises(UserError, match="unreachable failed: no route to host"):
            await call(path, "unreachable")


async def test_an_unexpected_error_costs_one_call_and_leaves_its_traceback(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        return {"ratio": 1 // 0}

    async def unsendable(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        return {"what": object()}

    async with serving(path, {"broken": broken, "unsendable": unsendable, "echo": echo}):
        with pytest.raises(UserError, match=r"broken failed unexpectedly \(ZeroDivisionError\)"):
            await call(path, "broken")
        with pytest.raises(UserError, match="unsendable failed unexpectedly"):
            await call(path, "unsendable")
        assert await call(path, "echo", {"a": 1}) == {"a": 1}
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR] * 2


async def test_a_client_that_dies_in_mid_drain_withdraws_its_call(path: Path) -> None:
    started, ended = trio.Event(), trio.Event()

    async def drain(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        started.set()
        try:
            while True:
                progress({"left": 1})
                await trio.sleep(0.001)
        finally:
            ended.set()

    async with serving(path, {"drain": drain, "echo": echo}):
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(b'{"v": 1, "call": "drain"}\n')
        await started.wait()
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        with trio.fail_after(5):
            await ended.wait()
        assert await call(path, "echo", {"a": 1}) == {"a": 1}


async def test_a_client_that_leaves_while_the_handler_is_silent_withdraws_its_call_at_once(path: Path) -> None:
    started, ended = trio.Event(), trio.Event()

    async def wait(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()
        raise AssertionError

    async with serving(path, {"wait": wait}):
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(b'{"v": 1, "call": "wait"}\n')
            await started.wait()
        with trio.fail_after(protocol.HEARTBEAT_S / 2):
            await ended.wait()


async def test_a_client_that_reads_nothing_is_dropped_and_holds_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SEND_S_MAX", 0.05)
    monkeypatch.setattr(server_module, "SEND_BYTES_PER_S_MIN", 1 << 40)
    ended = trio.Event()

    async def chatter(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        try:
            while True:
                progress({"text": "x" * 100_000})
                await trio.sleep(0)
        finally:
            ended.set()

    async with serving(path, {"chatter": chatter, "echo": echo}):
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(b'{"v": 1, "call": "chatter"}\n')
        assert await call(path, "echo", {"meanwhile": 1}) == {"meanwhile": 1}
        with trio.fail_after(5):
            await ended.wait()
        await stream.aclose()


async def test_a_silent_handler_gives_signs_of_life(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEARTBEAT_S", 0.01)

    async def think(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        await trio.sleep(0.1)
        return {}

    async with serving(path, {"think": think}):
        stream = await trio.open_unix_socket(str(path))
        async with stream:
            await stream.send_all(b'{"v": 1, "call": "think"}\n')
            lines = b"".join([chunk async for chunk in stream]).splitlines()
    assert lines[0] == b'{"progress":null}'
    assert lines[-1] == b'{"ok":true,"result":{}}'


async def test_the_answer_to_stop_goes_out_although_it_cancels_the_server(path: Path) -> None:
    with trio.CancelScope() as scope:

        async def stop(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
            progress({"stopping": True})
            scope.cancel()
            return {"stopping": True}

        async with trio.open_nursery() as nursery:
            await nursery.start(ControlServer(path, {"stop": stop}).serve)
            with trio.CancelScope(shield=True):
                assert await call(path, "stop") == {"stopping": True}
    assert not path.exists()


async def test_too_many_clients_are_told_to_come_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 1)
    entered = trio.Event()

    async def wait(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        entered.set()
        await trio.sleep_forever()
        raise AssertionError

    async with serving(path, {"wait": wait, "echo": echo}), await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(b'{"v": 1, "call": "wait"}\n')
        await entered.wait()
        answer = await raw(path, b'{"v": 1, "call": "echo"}\n')
        assert "busy" in answer["error"]["message"]


async def test_a_dead_socket_is_replaced_and_a_live_one_is_not(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(path, {"echo": echo}):
        assert await call(path, "echo", {"a": 1}) == {"a": 1}
        with pytest.raises(UserError, match="another gateway listens"):
            await ControlServer(path, {}).serve()
        assert await call(path, "echo", {"a": 2}) == {"a": 2}


async def test_a_file_in_the_way_and_a_path_too_long_are_named(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(UserError, match="in the way"):
        await ControlServer(path, {}).serve()
    assert path.read_text() == "precious"
    with pytest.raises(UserError, match="longer than 107 bytes"):
        await ControlServer(path.parent / ("x" * 110), {}).serve()


async def test_nobody_listening_is_not_running(path: Path) -> None:
    with pytest.raises(client.GatewayGone, match="no gateway answers") as caught:
        await call(path, "echo")
    assert caught.value.exit_code == 3


async def test_a_gateway_that_dies_during_the_call_is_not_running(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def answer_half() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(b'{"progress":{"left":1}}\n{"ok":tr')

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, answer_half)
        with pytest.raises(client.GatewayGone, match="ended before it answered drain"):
            await call(path, "drain")


async def test_a_gateway_that_hangs_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SILENCE_S_MAX", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(UserError, match="fell silent during status"):
            await call(path, "status")
        with pytest.raises(UserError, match="did not answer status in time"):
            await call(path, "status", timeout_s=0.01)

"""What an S3 request costs in CPU, ours and the kernel's, beside its yardsticks, in one run.

Small requests (1 KiB, six metadata keys) against a trivial server on loopback that runs in a process of its own, so
that the client is all that is measured. Each client runs in a process of its own too, several times in turn: the least
of each is what it costs, the rest is what the machine did meanwhile.

    ours          HttpObjectStore as the daemon uses it: event loop, thread, urllib3, botocore's signer
    boto3         one reused boto3 client, in threads

``python -m bench s3_client``; with BEFORE=directory another tree's package is measured as ``before``.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

REQUESTS = 1500
ROUNDS = 3
METADATA = {
    "file-owner": "1000",
    "file-group": "1000",
    "file-permissions": "0100644",
    "file-mtime": "1795444948123456789ns",
    "user-agent": "gatewayfs",
    "colour": "blue",
}
OPERATIONS = ("put", "get", "head")
BODY = b"x" * 1024


def run() -> dict[str, Any]:
    """CPU milliseconds per request of each client, operation and concurrency, and the ratios to ours."""
    figures: dict[str, Any] = {}
    clients = ["ours", "boto3"] + (["before"] if "BEFORE" in os.environ else [])
    with _Server() as port:
        for client in clients * ROUNDS:
            for name, value in _child(client, port).items():
                figures[f"{client}_{name}"] = min(value, figures.get(f"{client}_{name}", value))
    for client in clients[1:]:
        for operation in OPERATIONS:
            figures[f"{client}_to_ours_{operation}_16"] = round(
                figures[f"{client}_{operation}_16_cpu_ms"] / figures[f"ours_{operation}_16_cpu_ms"], 2
            )
    return figures


def _child(client: str, port: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.s3_client", client, str(port)]
    environment = dict(os.environ)
    if client == "before":
        environment["PYTHONPATH"] = os.environ["BEFORE"]
        command = [sys.executable, str(Path(__file__)), client, str(port)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    figures: dict[str, float] = json.loads(answer.stdout)
    return figures


class _Server:
    """The trivial S3 server, in its own process."""

    def __enter__(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        self._process = subprocess.Popen([sys.executable, "-m", "bench.s3_client", "serve", str(port)])
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                return port
            except ConnectionRefusedError:
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


HEAD = (
    'ETag: "0123456789abcdef0123456789abcdef"\r\nLast-Modified: Mon, 23 Nov 2026 14:42:28 GMT\r\n'
    "x-amz-request-id: tx000001\r\nDate: Mon, 23 Nov 2026 14:42:28 GMT\r\nContent-Type: text/plain\r\n"
    + "".join(f"x-amz-meta-{key}: {value}\r\n" for key, value in METADATA.items())
    + "\r\n"
).encode()
ANSWERS = {
    b"HEAD": b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n" + HEAD,
    b"GET ": b"HTTP/1.1 206 P\r\nContent-Length: 1024\r\nContent-Range: bytes 0-1023/1024\r\n" + HEAD + BODY,
    b"PUT ": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + HEAD,
}


class _Answers(asyncio.Protocol):
    """Answers every request at once, whatever it is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if not end or (head[:3] == b"PUT" and len(rest) < len(BODY)):
            if b"100-continue" in head and not rest:  # boto3 asks before it sends
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self.data = b""
        self.transport.write(ANSWERS[head[:4]])


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Answers, "127.0.0.1", port)
    await server.serve_forever()


def _store_operations(port: int) -> dict[str, Callable[[], Awaitable[object]]]:
    from gatewayfs.runtime.clock import SystemClock
    from gatewayfs.runtime.offload import Offload
    from gatewayfs.s3.client import HttpObjectStore
    from gatewayfs.s3.http import Endpoint
    from gatewayfs.s3.requests import Connection
    from gatewayfs.s3.signing import Credentials
    from gatewayfs.s3.store import InlineBody
    from gatewayfs.types import ObjectKey

    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    connection = Connection("bucket", Endpoint("127.0.0.1", port, "/bucket/"), "us-east-1", lambda: credentials)
    store = HttpObjectStore(connection, Offload(16), SystemClock(), connections_max=16)
    key, body = ObjectKey("directory/file name.txt"), InlineBody(BODY)
    return {
        "put": lambda: store.put(key, body, METADATA),
        "get": lambda: store.get(key, 0, 1024),
        "head": lambda: store.head(key),
    }


def _boto3_operations(port: int) -> dict[str, Callable[[], Awaitable[object]]]:
    import boto3
    import trio
    from botocore.config import Config

    client: Any = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(
            max_pool_connections=16, request_checksum_calculation="when_required", s3={"addressing_style": "path"}
        ),
    )
    where = {"Bucket": "bucket", "Key": "directory/file name.txt"}
    return {
        "put": lambda: trio.to_thread.run_sync(lambda: client.put_object(**where, Body=BODY, Metadata=METADATA)),
        "get": lambda: trio.to_thread.run_sync(lambda: client.get_object(**where, Range="bytes=0-1023")["Body"].read()),
        "head": lambda: trio.to_thread.run_sync(lambda: client.head_object(**where)),
    }


async def _measure(operation: Callable[[], Awaitable[object]], concurrency: int) -> tuple[float, float]:
    """Return (CPU ms per request, requests per second)."""
    import trio

    left = REQUESTS

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await operation()

    for _ in range(50):
        await operation()
    began, cpu = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        for _ in range(concurrency):
            nursery.start_soon(work)
    return (time.process_time() - cpu) / REQUESTS * 1000, REQUESTS / (time.perf_counter() - began)


def _client(name: str, port: int) -> None:
    import trio

    operations = _boto3_operations(port) if name == "boto3" else _store_operations(port)
    figures: dict[str, float] = {}
    for operation, perform in operations.items():
        for concurrency in (1, 16):
            cpu_ms, _ = trio.run(_measure, perform, concurrency)
            figures[f"{operation}_{concurrency}_cpu_ms"] = round(cpu_ms, 3)
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(_serve(int(sys.argv[2])))
    else:
        _client(sys.argv[1], int(sys.argv[2]))

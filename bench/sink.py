"""An S3 server that costs next to nothing: it remembers keys and etags, and throws the bytes away.

On two cores a real server takes the very CPU whose lack is to be measured. This one, in a process of its own, answers
a PUT in about 0.1 ms, honours If-None-Match and If-Match (a store without conditions would get other requests), and
knows multipart uploads; of LIST it only knows the answer "nothing". ``with Sink() as url: ...``
"""

import asyncio
import itertools
import socket
import subprocess
import sys
import time

_DATE = "Tue, 24 Nov 2026 12:00:00 GMT"

_UNKNOWN = {"x-amz-copy-source", "x-amz-tagging", "x-amz-acl"}


class Sink:
    """The server in a child process, for the length of a ``with`` block that yields its URL."""

    def __enter__(self) -> str:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        self._process = subprocess.Popen([sys.executable, "-m", "bench.sink", str(port)])
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                return f"http://127.0.0.1:{port}"
            except ConnectionRefusedError:
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


class _Objects:
    """Keys and etags."""

    def __init__(self) -> None:
        self.etags: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def number(self) -> str:
        return f"{next(self._numbers):032x}"

    def answer(self, method: str, target: str, headers: dict[str, str]) -> tuple[int, str, str]:
        """Status, etag ("" for none) and body."""
        key, _, query = target.partition("?")
        if headers.keys() & _UNKNOWN or query.startswith("delete"):
            return 400, "", "<Error><Code>InvalidRequest</Code></Error>"
        if method == "PUT" and "uploadId" in query:
            return 200, self.number(), ""
        if method == "PUT" or (method == "POST" and "uploadId" in query):
            return self._write(method, key, headers)
        if method == "POST":
            begun = f"<UploadId>{self.number()}</UploadId>"
            return 200, "", f"<InitiateMultipartUploadResult>{begun}</InitiateMultipartUploadResult>"
        if method == "DELETE":
            self.etags.pop(key, None)
            return 204, "", ""
        if query:
            return 200, "", "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        etag = self.etags.get(key, "")
        return (200, etag, "") if etag else (404, "", "")

    def _write(self, method: str, key: str, headers: dict[str, str]) -> tuple[int, str, str]:
        there = self.etags.get(key)
        wanted = headers.get("if-match")
        if (there is not None and "if-none-match" in headers) or (wanted and wanted.strip('"') != there):
            return 412, "", "<Error><Code>PreconditionFailed</Code></Error>"
        etag = self.etags[key] = self.number()
        if method == "PUT":
            return 200, etag, ""
        return 200, etag, f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"


class _Connection(asyncio.Protocol):
    """Reads heads, counts bodies, answers at once."""

    def __init__(self, objects: _Objects) -> None:
        self._objects = objects
        self._head = b""
        self._missing = 0
        self._pending: tuple[str, str, dict[str, str]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._pending is None:
            head, end, data = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                return
            self._head = b""
            first, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            self._missing = int(headers.get("content-length", "0"))
            self._pending = (method, target, headers)
            if headers.get("expect") and self._missing:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._missing -= len(data)
        if self._missing <= 0:
            pending, self._pending = self._pending, None
            self._reply(*pending)

    def _reply(self, method: str, target: str, headers: dict[str, str]) -> None:
        status, etag, body = self._objects.answer(method, target, headers)
        lines = [f"HTTP/1.1 {status} X", f"Date: {_DATE}", f"Last-Modified: {_DATE}"]
        if etag:
            lines.append(f'ETag: "{etag}"')
        if status != 204:
            lines.append(f"Content-Length: {len(body)}")
        if body:
            lines.append("Content-Type: application/xml")
        self._transport.write(("\r\n".join(lines) + "\r\n\r\n" + (body if method != "HEAD" else "")).encode())


async def _serve(port: int) -> None:
    objects = _Objects()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(objects), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))

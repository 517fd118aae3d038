"""A proxy in front of an S3 server that notes every request: what was really sent, whatever anybody counts."""

import http.client
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

HOLD_S_MAX = 20
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})


class Recorder:
    """Forwards to ``endpoint_url``; a context manager. ``requests`` holds (method, path with query), in order."""

    def __init__(self, endpoint_url: str) -> None:
        self.requests: list[tuple[str, str]] = []
        self._holds: dict[str, Event] = {}
        requests, holds, target = self.requests, self._holds, urlsplit(endpoint_url).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                requests.append((self.command, self.path))
                if self.command in holds:
                    holds[self.command].wait(HOLD_S_MAX)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                upstream = http.client.HTTPConnection(target, timeout=30)
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                data = answer.read()
                self.send_response_only(answer.status)
                length = answer.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
                for name, value in answer.getheaders():
                    if name.lower() not in HOP_BY_HOP | {"content-length"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(data)
                upstream.close()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    def hold(self, method: str) -> Event:
        """Requests of this method are noted, and forwarded when the event is set."""
        return self._holds.setdefault(method, Event())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def methods(self) -> set[str]:
        return {method for method, _ in self.requests}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

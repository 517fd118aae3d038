"""Events POSTed to a web service, one request each; any 2xx answer means taken.

Redirects are not followed: an event, and the secret that goes with it, are for the configured address only. Secrets
are in a file of their own, read anew for each request so that they can be changed, and neither they nor the address's
path (often a secret as well) get into messages.
"""

import os
import re
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import trio
import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError, TimeoutError

from gatewayfs.errors import UserError
from gatewayfs.events.settings import DeliveryFailed
from gatewayfs.runtime.offload import Offloader

PARALLEL = 8
"""Over a link of 20 ms that is 400 events a second."""

ANSWER_BYTES_MAX = 64 << 10
"""What is read of an answer, only to use its connection again."""

HEADERS_BYTES_MAX = 16 << 10

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")


class WebhookTarget:
    """A ``Taker`` that POSTs to ``url``.

    Args:
        timeout_s: for one request, all of it.
        headers_file: lines ``Name: value`` to send along, mode 0600.
        ca_bundle: PEM file of the authorities to trust; None: the system's.
        offload: at least ``PARALLEL`` threads; one that is cut short keeps its thread until its own time-out.

    Raises UserError when ``ca_bundle`` cannot be used.
    """

    name = "webhook"
    lines_max = 1
    parallel = PARALLEL

    def __init__(
        self, url: str, timeout_s: float, headers_file: Path | None, ca_bundle: Path | None, offload: Offloader
    ) -> None:
        self._url, self._timeout_s, self._headers_file, self._offload = url, timeout_s, headers_file, offload
        try:
            context = ssl.create_default_context(cafile=None if ca_bundle is None else str(ca_bundle))
        except (OSError, ssl.SSLError) as problem:
            raise UserError(f"events.webhook_ca_bundle {ca_bundle}: cannot be used: {problem}") from problem
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=PARALLEL, ssl_context=context)
        address = urlsplit(url)
        self._place = f"{address.scheme}://{address.netloc}"

    async def deliver(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            # A time-out alone ends a silence, not a trickle.
            with trio.move_on_after(self._timeout_s) as patience:
                await self._offload.run(self._post, line, abandon_on_cancel=True)
            if patience.cancelled_caught:
                raise DeliveryFailed(f"{self._place} did not answer within {self._timeout_s:g} s")

    def _post(self, line: bytes) -> None:
        """In a thread."""
        headers = {"Content-Type": "application/json", "User-Agent": "gatewayfs"}
        if self._headers_file is not None:
            headers |= read_headers(self._headers_file)
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=line,
                headers=headers,
                timeout=urllib3.Timeout(connect=self._timeout_s, read=self._timeout_s),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            if len(response.read(ANSWER_BYTES_MAX)) < ANSWER_BYTES_MAX:
                response.release_conn()
            else:
                response.close()
        except (HTTPError, OSError) as problem:
            raise DeliveryFailed(f"{self._place}: {_worded(problem)}") from problem
        if 300 <= response.status < 400:
            raise DeliveryFailed(
                f"{self._place} answered {response.status}: redirects are not followed; set the final address"
            )
        if not 200 <= response.status < 300:
            raise DeliveryFailed(f"{self._place} answered {response.status}")


def _worded(problem: Exception) -> str:
    """What went wrong, without the address."""
    match problem:
        case NewConnectionError():
            cause = problem.__cause__
            return f"cannot be reached: {getattr(cause, 'strerror', None) or 'no such host'}"
        case TimeoutError():
            return "did not answer in time"
        case SSLError():
            return f"TLS failed: {problem.args[0] if problem.args else problem}"
        case _:
            return f"the connection broke ({type(problem).__name__})"


def read_headers(path: Path) -> dict[str, str]:
    """The headers in a file of secrets; no message repeats what it holds. Blocks.

    Raises DeliveryFailed when others may read the file, or it does not hold lines ``Name: value``.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise DeliveryFailed(f"{path} is not a file of its owner alone; run chmod 600 {path}")
            text = os.read(fd, HEADERS_BYTES_MAX).decode("latin-1")
        finally:
            os.close(fd)
    except OSError as problem:
        raise DeliveryFailed(f"{path}: {problem.strerror}") from problem
    headers = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _HEADER.fullmatch(line.rstrip())
        if found is None:
            raise DeliveryFailed(f"{path} line {number}: write Name: value")
        headers[found[1]] = found[2]
    return headers

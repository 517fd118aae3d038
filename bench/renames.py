"""How fast a renamed directory, and a removed one, get to the bucket: files and requests per second.

A directory of small files is uploaded, renamed (its objects are copied, then deleted), removed with ``rm -rf``; each
time until the queue is empty, directly and over a link of 20 ms and 1 Gbit/s. The server is the production server of
the end-to-end tests (``ENDPOINT=url`` takes another one). With BEFORE=directory another tree's daemon does the same in
turn.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateway, Gateways
from tests.support.link import Link
from tests.support.s3server import TEST_KEY, TEST_SECRET, fresh_bucket, production_server

FILES = int(os.environ.get("FILES", "5000"))
RTT_S = 0.02
RATE_BYTES_PER_S = 125e6
DRAIN_S_MAX = 600.0
SMALL = b"x" * 100


def run() -> dict[str, Any]:
    """Files per second to the bucket, requests per file, CPU of the daemon per file."""
    os.environ.update(AWS_ACCESS_KEY_ID=TEST_KEY, AWS_SECRET_ACCESS_KEY=TEST_SECRET, AWS_DEFAULT_REGION="us-east-1")
    figures: dict[str, Any] = {}
    daemons: dict[str, dict[str, str]] = {"ours": {}} | (
        {"before": {"PYTHONPATH": os.environ["BEFORE"]}} if "BEFORE" in os.environ else {}
    )
    with _server() as url, Link(url, rtt_s=RTT_S, rate_bytes_per_s=RATE_BYTES_PER_S) as link:
        for path, endpoint in (("direct", url), ("far", link.url)):
            for daemon, env in daemons.items():
                for name, value in _measured(url, endpoint, env).items():
                    figures[f"{daemon}_{path}_{name}"] = value
    return figures


def _server() -> contextlib.AbstractContextManager[str]:
    given = os.environ.get("ENDPOINT")
    return contextlib.nullcontext(given) if given else production_server()


@contextlib.contextmanager
def _mounted(url: str, endpoint: str, env: dict[str, str]) -> Iterator[Gateway]:
    with (
        fresh_bucket(url) as bucket,
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", "/var/tmp")) as scratch,
        Gateways(Path(scratch)) as gateways,
    ):
        gateways.watchdog.cancel()  # it is meant for tests, which take seconds
        settings = {"upload.settle": "600s", "upload.settle_max": "600s"}
        yield gateways.mount(bucket, settings=settings, env=env, endpoint_url=endpoint)


def _measured(url: str, endpoint: str, env: dict[str, str]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with _mounted(url, endpoint, env) as gateway:
        old, new = gateway.mount_dir / "old", gateway.mount_dir / "new"

        def create() -> None:
            old.mkdir()
            for number in range(FILES):
                (old / f"f{number}").write_bytes(SMALL)

        steps: dict[str, Callable[[], object]] = {
            "upload": create,
            "rename": lambda: old.rename(new),
            "remove": lambda: shutil.rmtree(new),
        }
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            local_s = time.perf_counter() - begun
            figures |= {f"{name}_{what}": value for what, value in _drained(gateway).items()}
            if name == "rename":
                figures["rename_local_ms"] = round(local_s * 1e3, 1)
        assert not gateway.bucket.keys(), "something is left in the bucket"
    return figures


def _drained(gateway: Gateway) -> dict[str, float]:
    requests, cpu_s, begun = _requests(gateway), _cpu_s(gateway), time.perf_counter()
    gateway.drain(DRAIN_S_MAX)
    seconds = time.perf_counter() - begun
    return {
        "files_per_s": round(FILES / seconds, 1),
        "requests_per_file": round((_requests(gateway) - requests) / FILES, 3),
        "cpu_ms_per_file": round((_cpu_s(gateway) - cpu_s) * 1e3 / FILES, 2),
    }


def _requests(gateway: Gateway) -> int:
    return sum(operation["requests"] for operation in gateway.status()["s3"]["operations"].values())


def _cpu_s(gateway: Gateway) -> float:
    assert gateway.process is not None
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

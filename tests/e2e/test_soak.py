"""Two gateways and a boto3 program write to one prefix over bad lines, and nothing anybody was told is kept gets lost.

Every file is a log of tokens. A gateway's writer appends one to a file and counts it as acknowledged when close(2)
returned; the boto3 program appends with a conditional PUT and counts what the store accepted. Files are also created,
renamed and chmodded meanwhile. The lines between the gateways and the store are cut, slowed and reset all the time, and
the gateways are killed. Whoever replaces a version keeps the tokens of the one he saw, so at the end every acknowledged
token must be in *some* object: the file itself or a conflict copy. One that is not was a lost update.

GATEWAYFS_SOAK_S=300 makes it five minutes instead of the short run of the suite; a failure prints its seed.
"""

import errno
import itertools
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gateway import STUCK_S, Gateway, Gateways
from tests.support.link import Link
from tests.support.s3server import Bucket

SECONDS = float(os.environ.get("GATEWAYFS_SOAK_S", "25"))
SEED = int(os.environ.get("GATEWAYFS_SOAK_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
FILES = 6
PREFIX = "soak/"
REFUSALS = ("PreconditionFailed", "NoSuchKey", "ConditionalRequestConflict")
AWAY = (
    errno.EPERM,
    errno.ENOTCONN,
    errno.EIO,
    errno.ESTALE,
    errno.ENOENT,
    errno.ECONNABORTED,
    errno.EEXIST,
    errno.ENODEV,
)
"""What a call may answer while the gateway is dead, the bytes are behind a dead line, or somebody else was quicker."""


class Ledger:
    """Tokens, and whom they were promised to."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.kept: dict[str, str] = {}
        self.stop = threading.Event()
        self.problems: list[BaseException] = []

    def token(self, who: str) -> str:
        return f"<{who}-{next(self._numbers)}>"

    def acknowledged(self, token: str, where: str) -> None:
        self.kept[token] = where


class Site:
    """A gateway, its line, and its writer."""

    def __init__(self, name: str, gateway: Gateway, link: Link, ledger: Ledger) -> None:
        self.name, self.gateway, self.link, self.ledger = name, gateway, link, ledger
        self.rng = random.Random(f"{SEED} {name}")
        self.renamed = itertools.count()

    def write(self) -> None:
        root = self.gateway.mount_dir
        actions = (self.append, self.rename, self.chmod)
        while not self.ledger.stop.is_set():
            try:
                self.rng.choices(actions, (10, 2, 1))[0](root)
            except OSError as problem:
                if problem.errno not in AWAY:
                    raise
                self.ledger.stop.wait(0.05)
            self.ledger.stop.wait(self.rng.uniform(0, 0.05))

    def some_file(self, root: Path) -> Path:
        names = [name for name in os.listdir(root) if ".conflict-" not in name]
        if len(names) >= FILES or (names and self.rng.random() < 0.8):
            return root / self.rng.choice(sorted(names))
        return root / f"log-{self.rng.randrange(FILES)}"

    def append(self, root: Path) -> None:
        path, token = self.some_file(root), self.ledger.token(self.name)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(fd, token.encode())
        finally:
            os.close(fd)
        self.ledger.acknowledged(token, path.name)

    def rename(self, root: Path) -> None:
        path = self.some_file(root)
        os.rename(path, root / f"{self.name}-moved-{next(self.renamed)}")

    def chmod(self, root: Path) -> None:
        os.chmod(self.some_file(root), self.rng.choice([0o600, 0o640, 0o644]))

    def disturb(self) -> None:
        """One trouble after the other, for this site."""
        rng, link, stop = self.rng, self.link, self.ledger.stop
        troubles = (self.dead_line, self.slow_line, link.reset, self.broken_answers, self.kill, self.refresh)
        while not stop.wait(rng.uniform(0.2, 1.5)):
            rng.choices(troubles, (3, 2, 3, 2, 2, 4))[0]()

    def dead_line(self) -> None:
        self.rng.choice([self.link.cut, self.link.refuse])()
        self.ledger.stop.wait(self.rng.uniform(0.2, 2))
        self.link.join()

    def slow_line(self) -> None:
        self.link.rate_bytes_per_s = 20_000
        self.ledger.stop.wait(1)
        self.link.rate_bytes_per_s = 0

    def broken_answers(self) -> None:
        self.link.reset_after(self.rng.randrange(1, 3000))
        self.ledger.stop.wait(0.5)
        self.link.join()

    def kill(self) -> None:
        self.gateway.kill9()
        self.gateway.start()

    def refresh(self) -> None:
        self.gateway.verb("refresh-cache", str(self.gateway.mount_dir), check=False)


class Stranger:
    """A program that knows S3 and nothing of gateways."""

    def __init__(self, bucket: Bucket, ledger: Ledger) -> None:
        self.bucket, self.ledger = bucket, ledger
        self.rng = random.Random(f"{SEED} stranger")

    def write(self) -> None:
        while not self.ledger.stop.wait(self.rng.uniform(0, 0.1)):
            names = [key for key in self.bucket.keys(PREFIX) if not key.endswith("/")]
            token = self.ledger.token("stranger")
            if names and self.rng.random() < 0.8:
                self.append(self.rng.choice(names), token)
            else:
                self.put(f"{PREFIX}log-{self.rng.randrange(FILES)}", token.encode(), token, IfNoneMatch="*")

    def append(self, key: str, token: str) -> None:
        s3 = self.bucket.s3
        try:
            found = s3.get_object(Bucket=self.bucket.name, Key=key)
        except s3.exceptions.NoSuchKey:
            return
        with found["Body"] as body:
            seen = body.read()
        self.put(key, seen + token.encode(), token, IfMatch=found["ETag"])

    def put(self, key: str, body: bytes, token: str, **condition: str) -> None:
        try:
            self.bucket.s3.put_object(Bucket=self.bucket.name, Key=key, Body=body, **condition)
        except self.bucket.s3.exceptions.ClientError as problem:
            if problem.response["Error"]["Code"] not in REFUSALS:
                raise
            return
        self.ledger.acknowledged(token, key)


@pytest.fixture
def sites(bucket: Bucket, tmp_path: Path) -> Iterator[tuple[Ledger, list[Site]]]:
    ledger = Ledger()
    settings = {"upload.settle": "200ms", "upload.settle_max": "1s", "metadata.deadline": "3s"}
    with ExitStack() as stack:
        gateways = Gateways(tmp_path, stuck_s=SECONDS + STUCK_S)
        links = [stack.enter_context(Link(bucket.endpoint_url, rtt_s=0.005)) for _ in range(2)]
        for link in links:
            gateways.mount(bucket, start=False, prefix=PREFIX, settings=settings, endpoint_url=link.url)
        for gateway in gateways.made:
            # As docs/operating.md says: what is written while no gateway serves must not go to the bare directory.
            subprocess.run(["chattr", "+i", gateway.mount_dir], check=True)
            stack.callback(subprocess.run, ["chattr", "-i", gateway.mount_dir], check=True)
        stack.enter_context(gateways)
        made = [gateway.start() for gateway in gateways.made]
        yield ledger, [Site(f"site{n}", *pair, ledger) for n, pair in enumerate(zip(made, links, strict=True))]


def guarded(ledger: Ledger, work: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        except BaseException as problem:
            ledger.problems.append(problem)
            ledger.stop.set()

    return threading.Thread(target=run)


@pytest.mark.mount
@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 150)
def test_no_acknowledged_version_is_lost_between_two_gateways_and_a_stranger(
    bucket: Bucket, sites: tuple[Ledger, list[Site]]
) -> None:
    ledger, both = sites
    print(f"GATEWAYFS_SOAK_SEED={SEED}")
    work = [Stranger(bucket, ledger).write, *(site.write for site in both), *(site.disturb for site in both)]
    threads = [guarded(ledger, each) for each in work]
    for thread in threads:
        thread.start()
    ledger.stop.wait(SECONDS)
    ledger.stop.set()
    for thread in threads:
        thread.join()
    assert not ledger.problems, ledger.problems
    settle(both)
    stored = {key: bucket.body(key).decode() for key in bucket.keys(PREFIX)}
    everything = "".join(stored.values())
    lost = {token: where for token, where in ledger.kept.items() if token not in everything}
    assert not lost, f"{len(lost)} of {len(ledger.kept)} acknowledged tokens are in no object: {lost}"
    assert len(ledger.kept) > 5 * SECONDS, "hardly anything was written: this proves nothing"
    for site in both:
        shown = {PREFIX + path.name: path.read_text() for path in site.gateway.mount_dir.iterdir()}
        assert shown == {key: text for key, text in stored.items() if key != PREFIX}, site.name
        site.gateway.verb("check", str(site.gateway.mount_dir))


def settle(both: list[Site]) -> None:
    """Lines mended, queues drained, everybody looked again."""
    for site in both:
        site.link.join()
        site.link.rate_bytes_per_s = 0
        if not site.gateway.serves():
            site.gateway.restart()
    for _ in range(2):  # what the second drains may be news to the first
        for site in both:
            site.gateway.verb("refresh-cache", "--wait", str(site.gateway.mount_dir))
            site.gateway.drain()

"""Power loss: whatever was not fsynced may be gone, in any order; what was promised is there, and the store opens.

A share is used for a while on a disk whose every change is recorded (``powerloss.c``: also LMDB's, for it is the C
library that is listened to). Then power is lost at many moments of that one life, at each in one of many ways
(``disklog.ADVERSARIES``), and each time a share must come up from what is left, show a state that may be there
(``surviving``), and bring it to the bucket as the bucket was at that moment.
"""

import pickle
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import why_no_mount
from tests.crash.disklog import ADVERSARIES, Disk, Kind, Operation, read_log
from tests.crash.ledger import Answered, Blobs, Finished, Found, Ledger, Lost, Reader, found_tree
from tests.crash.objects import complaints
from tests.crash.series import fast_directory
from tests.crash.surviving import Recorded
from tests.crash.zygote import Zygote

SEEDS = range(3)
STEPS = 70
LOSSES = 50
"""Per recording."""

TAKING = (Kind.PUNCH, Kind.UNLINK, Kind.TRUNCATE)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """powerloss.c as a library to preload."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("shim") / "powerloss.so"
    source = Path(__file__).with_name("powerloss.c")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture(scope="module")
def recorder(shim: Path) -> Iterator[Zygote]:
    with Zygote("tests.crash.recording", env={"LD_PRELOAD": str(shim)}) as made:
        yield made


@pytest.fixture(scope="module")
def reviver() -> Iterator[Zygote]:
    with Zygote("tests.crash.recording") as made:
        yield made


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of its own, so that what happens to it can be told from everything else."""
    if reason := why_no_mount():
        pytest.skip(reason)
    home = fast_directory()
    (home / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "gwfs-powerloss", str(home / "disk")], check=True)
    try:
        yield home / "disk"
    finally:
        subprocess.run(["umount", "-l", str(home / "disk")], check=True)
        shutil.rmtree(home)


def recorded(home: Path) -> Recorded:
    """The history of the recording."""
    history, ledger = Recorded(), Ledger(Blobs(str(home / "blobs")))
    for record in Reader(home / "log"):
        step = ledger.pending
        ledger.feed(record)
        if isinstance(record, Answered):
            assert step is not None
            history.add(step, ledger.tree)
    return history


class Moment:
    """Where in the history a position of the disk's record is, from its marks."""

    def __init__(self, marks: list[str]) -> None:
        counts = Counter(mark.split()[0] for mark in marks)
        self.began, self.answered = counts["began"], counts["answered"]
        self.bucket = int(next(mark for mark in reversed(marks) if mark.startswith("bucket")).split()[1])
        self.floor = 0
        steps = 0
        for mark in marks:
            steps += mark == "began"
            if mark == "synced":
                self.floor = steps
        # fsync returned, though the step it belongs to was not answered yet: that step is as good as done.
        self.answered = max(self.answered, self.floor)


def lose_power(
    home: Path, disk: Disk, name: str, moment: Moment, seed: int, history: Recorded, reviver: Zygote
) -> None:
    """One loss, one revival, one judgement."""
    cache = home / f"revived-{seed}"
    disk.materialise(cache, random.Random(seed), ADVERSARIES[name])
    try:
        child = reviver.fork(
            "tests.crash.recording:revive",
            home / f"output-{seed}",
            home=str(home),
            cache=str(cache),
            bucket=moment.bucket,
            seed=seed,
        )
        if (status := child.wait(60)) != 0:
            said = (home / f"output-{seed}").read_text()[-3000:]
            raise Lost(f"what came up ended with {status}:\n{said}")
        records = list(Reader(Path(f"{cache}.log")))
        first, second, finished = records
        assert isinstance(first, Found)
        assert isinstance(second, Found)
        assert isinstance(finished, Finished)
        blobs = Blobs(str(home / "blobs"))
        history.judge(moment.answered, moment.began, moment.floor, first.entries, blobs.get)
        judge_clean(home, moment, first, blobs)
        judge_drained(cache, first, second, finished, blobs)
    finally:
        shutil.rmtree(cache)


def judge_clean(home: Path, moment: Moment, found: Found, blobs: Blobs) -> None:
    """What the records call clean is in the bucket just so: damage would never be noticed there."""
    versions, _ = pickle.loads((home / "bucket").read_bytes())[moment.bucket]
    objects = {key: history[-1].data for key, history in versions.items()}
    for seen in found.entries:
        if seen.clean and seen.kind == "file":
            # Below a renamed directory the object may still lie where it was.
            there = [objects[seen.path]] if seen.path in objects else objects.values()
            if blobs.get(seen.digest) not in there:
                raise Lost(f"{seen.path} is called clean, but the bucket has no such bytes")


def judge_drained(cache: Path, first: Found, second: Found, finished: Finished, blobs: Blobs) -> None:
    """Draining changed nothing here and made the bucket equal."""
    before, after = found_tree(first.entries, blobs), found_tree(second.entries, blobs)
    if before != after:
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        raise Lost(f"the drain changed {changed}")
    objects, uploads = pickle.loads(Path(f"{cache}.bucket").read_bytes())
    wrong = complaints(after, objects) + [f"a fragment of an upload is left: {upload}" for upload in uploads]
    wrong += finished.problems
    if wrong:
        raise Lost("after the drain: " + "; ".join(wrong))


@pytest.mark.semantics("durable-power-loss")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_power_loss_leaves_what_was_promised(seed: int, disk: Path, recorder: Zygote, reviver: Zygote) -> None:
    home = disk.parent
    child = recorder.fork(
        "tests.crash.recording:record", home / "output", home=str(home), disk=str(disk), seed=seed, steps=STEPS
    )
    assert child.wait(60) == 0, (home / "output").read_text()[-3000:]
    history = recorded(home)
    assert len(history.steps) == STEPS
    operations = list(read_log(home / "disklog"))
    begin = next(at for at, operation in enumerate(operations) if operation.path == "began")
    rng = random.Random(seed)
    # Half of them anywhere, half right after something was taken away: that is when the record must be safe already.
    taken = [at for at in range(begin, len(operations)) if operations[at].kind in TAKING]
    losses = rng.sample(range(begin, len(operations)), LOSSES // 2)
    losses = sorted({*losses, *rng.sample(taken, min(len(taken), LOSSES // 2))})
    play(home, disk, operations, losses, rng, history, reviver)


def play(
    home: Path,
    directory: Path,
    operations: list[Operation],
    losses: list[int],
    rng: random.Random,
    history: Recorded,
    reviver: Zygote,
) -> None:
    """Replay the record, losing power at the chosen positions."""
    disk = Disk(directory)
    for at, operation in enumerate(operations):
        disk.apply(operation)
        while losses and losses[0] == at:
            losses.pop(0)
            name = rng.choice(list(ADVERSARIES))
            seed = rng.randrange(1 << 30)
            try:
                lose_power(home, disk, name, Moment(disk.marks), seed, history, reviver)
            except Lost as lost:
                raise Lost(f"power lost at operation {at} of {len(operations)}, {name}, seed {seed}: {lost}") from None

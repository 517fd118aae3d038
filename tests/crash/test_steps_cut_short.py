"""Every kind of step, cut short at every point it comes by: done or not done, never half.

The random series meet most of these by chance; here none is left to it.
"""

from collections.abc import Iterator

import pytest

from tests.crash.series import Series
from tests.crash.steps import (
    AnyStep,
    Chmod,
    Mkdir,
    Orphan,
    Patch,
    Piece,
    Put,
    Rename,
    Rmdir,
    SetXattr,
    Truncate,
    Unlink,
)
from tests.crash.zygote import Zygote

LARGE, SMALL = 300_000, 3_000
POINTS = (
    "meta.append.before",
    "meta.append.after",
    "cache.mark_dirty.before",
    "cache.mark_dirty.after",
    "cache.write.after",
    "cache.pack_append.before",
    "cache.pack_append.after",
    "cache.truncate.before",
    "cache.truncate.after",
    "cache.persist.before",
    "cache.persist.after",
)
HITS = (1, 2, 3)

BEFORE: list[AnyStep] = [
    Put("large", 1, LARGE, 100_000),
    Put("small", 2, SMALL, SMALL),
    Put("other", 3, LARGE, LARGE),
    Mkdir("dir", 0o755),
    Put("dir/in", 4, SMALL, SMALL),
    Mkdir("empty", 0o700),
]

CASES: dict[str, AnyStep] = {
    "shrink a large file": Truncate("large", 100_000),
    "shrink a large file to a small one": Truncate("large", 1_000),
    "empty a large file": Truncate("large", 0),
    "grow a large file": Truncate("large", 500_000),
    "grow a small file over the limit": Truncate("small", 100_000),
    "change a large file in place": Patch("large", (Piece(50_000, 5, 1_000), Piece(200_000, 6, 1_000))),
    "append to a large file": Patch("large", (Piece(LARGE, 7, 5_000),)),
    "append to a small file": Patch("small", (Piece(SMALL, 8, 5_000),)),
    "outgrow the pack": Patch("small", (Piece(SMALL, 9, 100_000),)),
    "write over a large file": Put("large", 10, 2_000, 2_000),
    "write over a small file": Put("small", 11, LARGE, 100_000),
    "make a file": Put("new", 12, LARGE, 100_000),
    "rename over a file": Rename("large", "other"),
    "exchange": Rename("large", "small", exchange=True),
    "move a directory": Rename("dir", "empty/dir"),
    "remove": Unlink("large"),
    "remove an open file": Orphan("large", 13, 1_000),
    "remove a directory": Rmdir("empty"),
    "change the mode": Chmod("dir", 0o700),
    "set an attribute": SetXattr("large", "one", b"1"),
}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("tests.crash.rig") as made:
        yield made


@pytest.mark.parametrize("case", CASES)
def test_a_step_cut_short_is_done_or_not_done(case: str, zygote: Zygote) -> None:
    killed = 0
    for point in POINTS:
        for hit in HITS:
            # The answer to a step may not depend on what was uploaded, so nothing is.
            with Series(sum(case.encode()), zygote, settle_s=600) as series:
                reached = series.kill_in_step([*BEFORE, CASES[case]], f"{point}:{hit}")
                if reached:
                    series.finish()
                killed += reached
            if not reached:
                break
    assert killed >= 2, f"{case} comes by nothing"

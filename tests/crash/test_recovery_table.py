"""docs/recovery.md says of every failpoint what is safe there and what the next start does."""

import re
from pathlib import Path

from gatewayfs.runtime.failpoints import FAILPOINTS
from tests.crash import test_failpoints

TABLE = Path(__file__).parents[2] / "docs" / "recovery.md"


def test_the_crash_table_has_a_row_for_every_failpoint_and_no_other() -> None:
    assert test_failpoints.TRIES, "importing it has registered every failpoint"
    rows = [line.split("|")[1] for line in TABLE.read_text().splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+\.[a-z_]+\.[a-z]+)`", row)}
    assert named == set(FAILPOINTS)

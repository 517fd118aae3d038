"""``gatewayfs unpin``: let what was pinned be evicted again."""

from collections.abc import Sequence

from gatewayfs.cli.treeverb import run_tree_verb
from gatewayfs.control import calls

STORY = """\
End the pins of PATH, and of everything pinned below it. The bytes stay until the space is needed; `gatewayfs evict`
lets them go now. A file that is covered by a pinned directory above it stays pinned: unpin that."""


def run(argv: Sequence[str]) -> int:
    examples = """gatewayfs unpin /mnt/photos templates
        gatewayfs unpin photos ."""
    return run_tree_verb(argv, calls.UNPIN, STORY, examples, "letting go", "let go")

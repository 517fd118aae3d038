"""``gatewayfs warm``: fetch files before somebody needs them."""

from collections.abc import Sequence

from gatewayfs.cli.treeverb import run_tree_verb
from gatewayfs.control import calls

STORY = """\
Fetch every byte of the files at and below PATH that is not in the cache yet, several files at a time, and return when
that is done. What could not be fetched is listed with its reason (exit status 5): the bucket does not answer, or the
cache has no room for it. Warmed bytes may be evicted again like any others."""


def run(argv: Sequence[str]) -> int:
    examples = """gatewayfs warm /mnt/photos 2026/january
        gatewayfs warm photos project/assets project/fonts"""
    return run_tree_verb(argv, calls.WARM, STORY, examples, "fetching", "fetched")

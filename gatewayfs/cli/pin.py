"""``gatewayfs pin``: keep files in the cache for good."""

from collections.abc import Sequence

from gatewayfs.cli.treeverb import run_tree_verb
from gatewayfs.control import calls

STORY = """\
Keep the files at and below PATH in the cache for good: they are fetched now, and again when others replace them in the
bucket, and are never evicted. Files that are created below a pinned directory, moved there or found there are pinned,
too. Pins survive restarts, and `gatewayfs status` lists them. What could not be fetched is listed with its reason (exit
status 5) and is tried again by itself; three quarters of the cache can be pinned."""


def run(argv: Sequence[str]) -> int:
    examples = """gatewayfs pin /mnt/photos templates
        gatewayfs pin photos project/assets catalogue.db"""
    return run_tree_verb(argv, calls.PIN, STORY, examples, "fetching", "fetched")

"""``gatewayfs evict``: give cache space back now."""

from collections.abc import Sequence

from gatewayfs.cli.treeverb import run_tree_verb
from gatewayfs.control import calls

STORY = """\
Let the cached bytes of the files at and below PATH go, where the bucket has them too: the files stay, and their next
reader fetches them. What must stay is listed with its reason (exit status 5): not uploaded yet, or in use."""


def run(argv: Sequence[str]) -> int:
    examples = """gatewayfs evict /mnt/photos 2019
        gatewayfs evict photos ."""
    return run_tree_verb(argv, calls.EVICT, STORY, examples, "evicting", "evicted")

"""The entry point: find the verb, run it, word its failure.

A verb's module is imported only when it is asked for: ``gatewayfs status`` must not pay for loading boto3. A verb
offers ``run(argv) -> int``.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from gatewayfs.cli import exitcodes
from gatewayfs.cli.failures import described

VERBS = {
    "mount": "mount a bucket, or a prefix of one, on a directory",
    "init": "describe a share in a file, by asking; make its directories",
    "umount": "upload what is queued, unmount, and wait until the gateway has ended",
    "status": "what a gateway is doing: cache, queue, transfers, problems",
    "drain": "upload everything now; with --wait return when it is in the bucket",
    "queue": "what waits for upload and why; hold it back, let it go, try again",
    "notify-when-uploaded": "have an event sent when everything written until now is in the bucket",
    "refresh-cache": "look again what is in the bucket, where others changed it",
    "look-again": "look at single objects that others changed",
    "export": "the share over NFS: nfs-ganesha's configuration, its supervision, mount commands",
    "throttle": "bandwidth limits and their weekly schedule",
    "warm": "fetch files into the cache before they are needed",
    "evict": "let cached bytes of files go that the bucket has too",
    "pin": "keep files in the cache for good",
    "unpin": "let what was pinned be evicted again",
    "check": "whether records, cache files and queue agree",
    "recover": "rebuild changed files from a cache directory whose records are lost",
    "doctor": "whether this machine, its cache disk and the bucket are fit for a gateway",
    "version": "versions of gatewayfs and what it stands on",
}

_HELP = """\
usage: gatewayfs VERB [ARGUMENTS]

Mounts an S3 bucket as a file system with a durable write-back cache.

{verbs}

gatewayfs VERB --help explains one verb. The manual is in docs/.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see ``exitcodes``)."""
    try:
        code = dispatch(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        say("interrupted")
        return exitcodes.INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exitcodes.OUTPUT_CLOSED
    except Exception as error:  # noqa: BLE001 - one line on the terminal; the traceback is kept in a file
        text, code = described(error)
        for line in text.splitlines():
            say(line)
        return code


def dispatch(argv: list[str]) -> int:
    """Raises what the verb raises; SystemExit never leaves."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text(), end="")
        return exitcodes.OK if argv else exitcodes.USAGE
    verb = "version" if argv[0] in ("-V", "--version") else argv[0]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "gatewayfs --help lists the verbs"
        say(f"{verb} is not a verb; {hint}")
        return exitcodes.USAGE
    module = importlib.import_module(f"gatewayfs.cli.{verb.replace('-', '_')}")
    try:
        return int(module.run(argv[1:]))
    except SystemExit as end:  # argparse's --help
        return int(end.code or 0)


def help_text() -> str:
    """What ``gatewayfs --help`` prints."""
    width = max(map(len, VERBS))
    return _HELP.format(verbs="\n".join(f"  {verb:{width}}  {summary}" for verb, summary in VERBS.items()))


def say(line: str) -> None:
    """One line for the person at the keyboard."""
    print(f"gatewayfs: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

"""argparse, with mistakes told in one line and the nearest known name."""

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from gatewayfs.cli import exitcodes
from gatewayfs.errors import UserError


class UsageError(UserError):
    """A mistake in the arguments."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message, cure, exitcodes.USAGE)


class Parser(argparse.ArgumentParser):
    """One verb's arguments.

    Args:
        verb: its name.
        story: what it does, a paragraph or more.
        examples: command lines, one per line.
    """

    def __init__(self, verb: str, story: str, examples: str = "") -> None:
        lines = [f"  {line.strip()}" for line in examples.strip().splitlines()]
        super().__init__(
            prog=f"gatewayfs {verb}",
            description=story,
            epilog="\n".join(["examples:", *lines]) if lines else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # an abbreviation in a script breaks when an option is added
        )

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Raises UsageError; ``--help`` prints and exits with 0."""
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            self._refuse(unknown[0])
        return arguments

    def _refuse(self, item: str) -> NoReturn:
        if item.startswith("-"):
            near = difflib.get_close_matches(item.partition("=")[0], list(self._option_string_actions), n=1)
            cure = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
            raise UsageError(f"{item.partition('=')[0]} is not an option of {self.prog}", cure)
        raise UsageError(f"{item!r} is one argument too many for {self.prog}", f"see {self.prog} --help")

    def error(self, message: str) -> NoReturn:
        """argparse's own complaints, without its usage block."""
        raise UsageError(f"{self.prog}: {message}", f"see {self.prog} --help")


def add_target(parser: Parser, help_text: str = "mount directory, or the share's name") -> None:
    """The gateway a verb speaks to."""
    parser.add_argument("target", metavar="DIR", help=help_text)


def add_json(parser: Parser) -> None:
    """For scripts."""
    parser.add_argument("--json", action="store_true", help="print one JSON object, for scripts")


def positive_seconds(text: str) -> float:
    """argparse type: a duration with or without a unit."""
    from gatewayfs.config.units import DURATION_HELP, parse_duration

    try:
        return parse_duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: {DURATION_HELP}") from None

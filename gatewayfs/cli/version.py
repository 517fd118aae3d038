"""``gatewayfs version``: what is running here."""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from gatewayfs._version import __version__
from gatewayfs.cli import exitcodes
from gatewayfs.cli.parsing import Parser, add_json

FOUNDATIONS = ("pyfuse3", "trio", "boto3", "botocore", "lmdb", "msgspec", "pydantic", "xxhash")


def run(argv: Sequence[str]) -> int:
    parser = Parser("version", "Print the version of gatewayfs and of what it stands on.", "gatewayfs version --json")
    add_json(parser)
    arguments = parser.parse(argv)
    versions = {
        "gatewayfs": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        **{name: installed(name) for name in FOUNDATIONS},
    }
    if arguments.json:
        print(json.dumps(versions))
    else:
        print("\n".join(f"{name:10} {text}" for name, text in versions.items()))
    return exitcodes.OK


def installed(package: str) -> str:
    """The installed version, or "missing"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"

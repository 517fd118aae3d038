"""``BUCKET[/PREFIX]`` and the options that make a share's configuration, shared by mount, doctor and recover."""

import argparse
import os
from pathlib import Path

from gatewayfs.cli.parsing import Parser, UsageError
from gatewayfs.config import ShareConfig, load


def add_share_options(parser: Parser) -> None:
    """What else can be said about a share."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="the share's TOML file (docs/configuration.md)")
    parser.add_argument("--cache-dir", metavar="DIR", help="where cached data and records live (cache.directory)")
    parser.add_argument("--endpoint-url", metavar="URL", help="the store, if it is not AWS (s3.endpoint_url)")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="set any option, like upload.settle=5s"
    )


def split_bucket_path(text: str) -> tuple[str, str]:
    """``s3://bucket/a/b`` or ``bucket/a/b`` -> bucket and prefix."""
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not bucket:
        raise UsageError(f"{text!r} names no bucket", "write BUCKET or BUCKET/PREFIX")
    return bucket, prefix


def load_share(arguments: argparse.Namespace, bucket_path: str | None, mount_directory: str | None) -> ShareConfig:
    """The configuration all of that adds up to. Raises ConfigError, UsageError."""
    flags: dict[str, str] = {}
    if bucket_path is not None:
        flags["share.bucket"], flags["share.prefix"] = split_bucket_path(bucket_path)
    if arguments.cache_dir is not None:
        flags["cache.directory"] = os.path.abspath(arguments.cache_dir)
    if arguments.endpoint_url is not None:
        flags["s3.endpoint_url"] = arguments.endpoint_url
    place = Path(mount_directory) if mount_directory is not None else None
    return load(arguments.config, arguments.set, flags=flags, mountpoint=place)

"""``gatewayfs mount``: from arguments to a serving gateway."""

import faulthandler
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gatewayfs import logs
from gatewayfs.cli.background import run_in_background
from gatewayfs.cli.bucketpath import add_share_options, load_share
from gatewayfs.cli.failures import sole
from gatewayfs.cli.parsing import Parser, UsageError
from gatewayfs.config import ShareConfig
from gatewayfs.errors import UserError
from gatewayfs.mountpoint import prepare_mountpoint

logger = logging.getLogger(__name__)

LOG_NAME = "gatewayfs.log"

STORY = """\
Mount a bucket, or the part of it below a prefix, on an existing empty directory. Everything written there is in the
cache directory when the call returns and in the bucket soon after, one plain object per file; after a crash mount
again with the same cache directory and nothing acknowledged is lost.

Runs in the foreground until unmounted, Ctrl-C or SIGTERM; with --background it returns when the mount serves.
Credentials, region and endpoint come from boto3's environment and files unless the configuration names them."""


def run(argv: Sequence[str]) -> int:
    parser = Parser(
        "mount",
        STORY,
        """gatewayfs mount company-photos /mnt/photos
        gatewayfs mount company-photos/site-a /mnt/photos --cache-dir /srv/cache/photos --background
        gatewayfs mount bucket /mnt/b --endpoint-url http://127.0.0.1:9000 --set upload.settle=10s
        gatewayfs mount --config /etc/gatewayfs/photos.toml""",
    )
    parser.usage = "gatewayfs mount BUCKET[/PREFIX] DIR [options]\n       gatewayfs mount --config FILE [DIR] [options]"
    parser.add_argument("what", metavar="BUCKET[/PREFIX] DIR", nargs="*", help="what to mount, and where")
    add_share_options(parser)
    parser.add_argument("--background", action="store_true", help="return when the mount serves")
    arguments = parser.parse(argv)
    bucket_path, directory = _positional(arguments.what, with_config=arguments.config is not None)
    config = load_share(arguments, bucket_path, directory)
    if config.mount.directory is None:
        raise UsageError("there is no directory to mount on", f"name one, or set mount.directory in {arguments.config}")
    place = prepare_mountpoint(
        config.mount.directory, cache_directory=config.cache.directory, allow_nonempty=config.mount.allow_nonempty
    )
    if not arguments.background:
        return _serve(config, place, lambda: _say_serving(config, place))
    log_file = config.log.file or _log_in_cache(config)
    logged = config.log.model_copy(update={"file": log_file})
    in_file = config.model_copy(update={"log": logged})
    return run_in_background(lambda ready: _serve(in_file, place, ready), log_file)


def _positional(what: list[str], *, with_config: bool) -> tuple[str | None, str | None]:
    """Bucket and directory, each where it is given."""
    wanted = "write BUCKET[/PREFIX] DIR, or --config FILE [DIR]"
    if with_config:
        if len(what) > 1:
            raise UsageError("with --config only the mount directory may follow", wanted)
        return None, what[0] if what else None
    if len(what) != 2:
        missing = "the bucket and the mount directory are" if not what else "the mount directory is"
        raise UsageError(f"{missing} missing" if len(what) < 2 else f"{what[2]!r} is one argument too many", wanted)
    return what[0], what[1]


def _serve(config: ShareConfig, place: Path, ready: Callable[[], None]) -> int:
    from gatewayfs.daemon import run_daemon  # here, so that mistakes above are told without loading everything

    try:
        logs.configure(config.log.level, config.log.format, config.log.file)
    except OSError as error:
        raise UserError(f"log.file {config.log.file} cannot be written: {error.strerror}") from error
    faulthandler.enable()  # systemd's watchdog ends a hanging gateway by SIGABRT: the stacks say where it hung
    try:
        return run_daemon(config, place, ready=ready)
    except Exception as error:
        if not isinstance(sole(error), UserError):
            logger.exception("the gateway ended by an error")
        raise


def _say_serving(config: ShareConfig, place: Path) -> None:
    where = f"{config.share.bucket}/{config.share.prefix}".rstrip("/")
    print(f"gatewayfs: {where} is mounted on {place}; gatewayfs umount {place} ends it", file=sys.stderr, flush=True)


def _log_in_cache(config: ShareConfig) -> Path:
    directory = config.cache.directory
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cache.directory {directory} cannot be made: {error.strerror}") from error
    return directory / LOG_NAME

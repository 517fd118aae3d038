"""s3fs and rclone, the two tools most trees in buckets were written with, as their users run them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.applications import run
from tests.support.s3server import TEST_KEY, TEST_SECRET, Bucket

BESIDE = Path(sys.executable).parent
UNMOUNT_S_MAX = 30


def program(name: str) -> str | None:
    """Where a tool is: beside the interpreter, or on PATH."""
    return shutil.which(name, path=f"{BESIDE}:{os.environ['PATH']}")


def why_not(name: str) -> str:
    """What is missing to test with the tool, or ""."""
    return "" if program(name) else f"needs {name} (scripts/test-tools.sh installs it)"


def rclone(bucket: Bucket, scratch: Path, *arguments: str | Path) -> str:
    """Run rclone; its remote ``b:`` is the bucket. Returns its output, raises with it when it fails."""
    environ = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "Other",
        "RCLONE_CONFIG_S3_ACCESS_KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID", TEST_KEY),
        "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": os.environ.get("AWS_SECRET_ACCESS_KEY", TEST_SECRET),
        "RCLONE_CONFIG_S3_ENDPOINT": bucket.endpoint_url,
        "RCLONE_CONFIG_S3_REGION": "us-east-1",
        "RCLONE_CONFIG_B_TYPE": "alias",
        "RCLONE_CONFIG_B_REMOTE": f"s3:{bucket.name}",
    }
    found = program("rclone")
    assert found is not None
    return run(found, "--retries", "1", *arguments, cwd=scratch, **environ)


@contextmanager
def s3fs(bucket: Bucket, scratch: Path) -> Iterator[Path]:
    """Mount the bucket with s3fs; everything is uploaded and the mount gone when the block ends."""
    keys, mount = scratch / "passwd-s3fs", scratch / "s3fs"
    keys.write_text(
        f"{os.environ.get('AWS_ACCESS_KEY_ID', TEST_KEY)}:{os.environ.get('AWS_SECRET_ACCESS_KEY', TEST_SECRET)}"
    )
    keys.chmod(0o600)
    mount.mkdir(exist_ok=True)
    found = program("s3fs")
    assert found is not None
    options = f"passwd_file={keys},url={bucket.endpoint_url},use_path_request_style,endpoint=us-east-1"
    run(found, bucket.name, mount, "-o", options, cwd=scratch)
    try:
        yield mount
    finally:
        if os.path.ismount(mount):
            subprocess.run(["umount", mount], check=True, timeout=UNMOUNT_S_MAX)

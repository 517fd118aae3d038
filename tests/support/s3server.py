"""S3 servers for tests: a bucket of one's own on any of them, and the production server of the end-to-end tier.

The production server is Ceph's RADOS gateway, installed and started by ``scripts/s3-server.sh``; or, when
GATEWAYFS_E2E_ENDPOINT (with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) names one, that one, and nothing is started.
"""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

TEST_KEY = TEST_SECRET = "minioadmin"
SCRIPT = Path(__file__).parents[2] / "scripts" / "s3-server.sh"
PORT = int(os.environ.get("GATEWAYFS_S3_PORT", "6520"))
START_S_MAX = 1500
"""Installing takes minutes on a machine that never did it; starting takes about 25 s."""


class ServerUnavailable(Exception):
    """The production server could not be installed or started here; the message is the script's last words."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and how to look into it past the gateway: the oracle of the mount tests.

    ``s3`` is a boto3 client with the test credentials.
    """

    name: str
    endpoint_url: str
    s3: Any

    def keys(self, prefix: str = "") -> list[str]:
        """Every key under the prefix, in key order."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def head(self, key: str) -> dict[str, Any]:
        """HeadObject's answer; botocore's ClientError when there is none."""
        return dict(self.s3.head_object(Bucket=self.name, Key=key))

    def metadata(self, key: str) -> dict[str, str]:
        """User metadata with lower-case keys."""
        return {name.lower(): value for name, value in self.head(key)["Metadata"].items()}

    def body(self, key: str) -> bytes:
        """The whole object."""
        return bytes(self.s3.get_object(Bucket=self.name, Key=key)["Body"].read())

    def put(self, key: str, body: bytes = b"", **arguments: Any) -> str:
        """PutObject as another program would; returns the etag without quotes."""
        return str(self.s3.put_object(Bucket=self.name, Key=key, Body=body, **arguments)["ETag"]).strip('"')

    def delete(self, key: str) -> None:
        """DeleteObject as another program would."""
        self.s3.delete_object(Bucket=self.name, Key=key)


def client(endpoint_url: str) -> Any:
    """A boto3 client for the server, with the credentials of the environment (tests/conftest.py sets them)."""
    config = Config(
        s3={"addressing_style": "path"},
        retries={"mode": "standard", "max_attempts": 3},
        connect_timeout=5,
        read_timeout=60,
        # Older servers do not know the trailing checksums that are botocore's default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", endpoint_url=endpoint_url, config=config)


@contextmanager
def fresh_bucket(endpoint_url: str) -> Iterator[Bucket]:
    """A new empty bucket, emptied and removed afterwards."""
    bucket = Bucket(f"gatewayfs-test-{uuid.uuid4().hex[:12]}", endpoint_url, client(endpoint_url))
    bucket.s3.create_bucket(Bucket=bucket.name)
    try:
        yield bucket
    finally:
        remove_bucket(bucket)
        bucket.s3.close()


def remove_bucket(bucket: Bucket) -> None:
    """Remove the bucket with every version and unfinished upload in it; one that is gone already is fine."""
    s3, name = bucket.s3, bucket.name
    try:
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
            for upload in page.get("Uploads", ()):
                s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        # Always the first page: markers of a listing whose keys are going lead moto past some of them.
        while entries := _versions(s3.list_object_versions(Bucket=name)):
            s3.delete_objects(Bucket=name, Delete={"Objects": entries, "Quiet": True})
        s3.delete_bucket(Bucket=name)
    except s3.exceptions.NoSuchBucket:
        return


def _versions(page: Any) -> list[dict[str, str]]:
    entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
    return [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]


@contextmanager
def production_server() -> Iterator[str]:
    """URL of the production server; one that this call started is wiped afterwards.

    Raises:
        ServerUnavailable: it could not be installed or started on this machine.
    """
    if given := os.environ.get("GATEWAYFS_E2E_ENDPOINT"):
        yield given
        return
    was_running = run_script("running").returncode == 0
    if not was_running:
        started = run_script("start")
        if started.returncode != 0:
            raise ServerUnavailable("\n".join(started.stdout.splitlines()[-8:]))
    try:
        yield f"http://127.0.0.1:{PORT}"
    finally:
        if not was_running:
            run_script("wipe")


def run_script(verb: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/s3-server.sh VERB; stdout and stderr come back together."""
    return subprocess.run(
        [str(SCRIPT), verb],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_S_MAX,
        check=False,
    )

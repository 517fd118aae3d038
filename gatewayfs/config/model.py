"""Every option of a share: name, unit, default and the reason for the default.

This file is the option table. The TOML reader, ``--set``, the error messages and the test of docs/configuration.md all
walk these models; there is no second list. A field's Python name carries its unit (``settle_s``, ``part_size_bytes``),
the option's name does not (``upload.settle``), because its value may be written in any unit.

Models are frozen and hold no secrets: ``repr(config)`` may be logged. Relations between options: ``relations.py``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from gatewayfs.config.eventoptions import EventsOptions
from gatewayfs.config.exportoptions import ExportOptions
from gatewayfs.config.identityoptions import IdentityOptions
from gatewayfs.config.kinds import (
    ID_MAX,
    AbsolutePath,
    AccountId,
    BucketName,
    Count,
    Duration,
    EndpointUrl,
    Flag,
    FuseOptions,
    Kind,
    Mode,
    Patterns,
    Prefix,
    RateLimit,
    ShareName,
    Size,
    StorageClass,
    Tags,
    Text,
    TimeZone,
)
from gatewayfs.config.logoptions import AuditOptions, HealthOptions, LogOptions
from gatewayfs.config.refreshoptions import RefreshOptions
from gatewayfs.config.section import Section, option_name

BYTES_MAX = 1 << 50
"""More than any disk: what is larger is a slip of the pen."""


class ShareOptions(Section):
    """What is shown, and what it is called."""

    bucket: BucketName = Field(description="The bucket.")
    prefix: Prefix = Field("", description="Show only the keys below this prefix.")
    name: ShareName = Field(description="What this share is called on this host.")
    read_only: Flag = Field(False, description="Nothing is changed, here or in the bucket.")


class S3Options(Section):
    """How the bucket is reached. Credentials come from boto3's chain or from ``credentials_file``."""

    endpoint_url: EndpointUrl | None = Field(None, description="The store's address, for anything that is not AWS.")
    region: Text | None = Field(None, description="The bucket's region.")
    profile: Text | None = Field(None, description="Section of the AWS configuration or credentials file.")
    credentials_file: AbsolutePath | None = Field(None, description="File with the keys, mode 0600.")
    # AWS wants virtual-host addresses, nearly every other store path addresses; boto3's rule picks by endpoint.
    addressing: Annotated[Literal["auto", "path", "virtual"], Kind("choice", str)] = Field(
        "auto", description="Where the bucket's name goes in a request's address."
    )
    ca_bundle: AbsolutePath | None = Field(None, description="PEM file of the authorities to trust for https.")
    # A proxy's password has no place in a configuration file; boto3's variables (HTTPS_PROXY) may hold one.
    proxy: EndpointUrl | None = Field(None, description="HTTP proxy to reach the store through.")
    dual_stack: Flag = Field(False, description="Use AWS's addresses that answer over IPv6 too.")
    requester_pays: Flag = Field(False, description="Agree to pay for requests to somebody else's bucket.")
    bucket_owner: AccountId | None = Field(None, description="AWS account that the bucket must belong to.")
    restore: Annotated[Literal["off", "bulk", "standard", "expedited"], Kind("choice", str)] = Field(
        "off", description="Ask S3 to restore archived objects that are read, and how fast."
    )
    restore_days: Count = Field(7, ge=1, le=3650, description="How long a restored object stays readable.")
    # 16 uploads, 52 requests ahead of need, and the rest for what somebody waits for (daemon/lanes.py).
    connections: Count = Field(112, ge=2, le=1024, description="Connections kept to the store.")


class ObjectsOptions(Section):
    """How objects are written."""

    storage_class: StorageClass | None = Field(None, description="Storage class of new objects.")
    # An edit that moved an object to another class would cost fees for early deletion, and surprise its owner.
    keep_storage_class: Flag = Field(True, description="An object that is edited or moved stays in its class.")
    acl: Annotated[
        Literal[
            "default",
            "private",
            "public-read",
            "public-read-write",
            "authenticated-read",
            "bucket-owner-read",
            "bucket-owner-full-control",
            "aws-exec-read",
        ],
        Kind("choice", str),
    ] = Field("default", description="Canned ACL of new objects.")
    keep_acl: Flag = Field(True, description="An object that is edited or moved keeps its ACL.")
    tags: Tags = Field((), description="Tags of new objects.")
    # HEAD says whether an object has tags; asking again before every write would double the requests.
    check_tags: Flag = Field(False, description="Ask for an object's tags before every write that replaces it.")
    encryption: Annotated[Literal["bucket", "sse-s3", "sse-kms", "dsse-kms"], Kind("choice", str)] = Field(
        "bucket", description="Encryption at rest of new objects."
    )
    kms_key: Text | None = Field(None, description="KMS key for sse-kms and dsse-kms.")
    bucket_key: Flag = Field(False, description="Let sse-kms derive keys from one key per bucket.")
    also_write: Annotated[Literal["none", "s3fs", "rclone"], Kind("choice", str)] = Field(
        "none", description="Tool for whose eyes attributes are written in its own form too."
    )
    # What AWS computes by itself where nobody says; over 10 GiB/s here, 0.6 us for a small object.
    checksum: Annotated[Literal["crc64nvme", "crc32c", "none"], Kind("choice", str)] = Field(
        "crc64nvme", description="Checksum that objects are stored with and compared with when read whole."
    )


class CacheOptions(Section):
    """The local disk."""

    directory: AbsolutePath = Field(description="Where this share keeps its records and file contents.")
    # Creating a file on ext4 costs four times what the rest of a small create does; one S3 PUT of 64 KiB costs little
    # more than one of 1 KiB, so up to here a pack entry wins on both ends.
    # Derived from the disk where they are not given: see daemon.storing.cache_limits.
    size_bytes: Size | None = Field(
        None,
        ge=16 << 20,
        le=BYTES_MAX,
        description="What cached contents may take; by default 80 % of the file system.",
    )
    min_free_bytes: Size | None = Field(
        None,
        ge=0,
        le=BYTES_MAX,
        description="What the file system shall keep free; by default 5 % of it, at most 10 GiB.",
    )
    dirty_max_bytes: Size | None = Field(
        None, ge=8 << 20, le=BYTES_MAX, description="What may wait to be uploaded; by default 80 % of cache.size."
    )
    small_file_bytes: Size = Field(64 << 10, ge=0, le=1 << 20, description="Files up to this size live in packs.")
    # Half of it under way: six times what a line of 1 Gbit/s and 20 ms holds, for stores that take their time, and
    # 800 MB/s at 20 ms. More would be wasted when a reader stops, and keep others from the line longer.
    read_ahead_bytes: Size = Field(
        32 << 20, ge=0, le=1 << 30, description="How far ahead of a program reading a file in order to fetch; 0: never."
    )
    # All costs a reader in order 0.1 ms of CPU per MiB, and one who reads here and there a MiB of disk for the first
    # of its bytes (bench/README.md); one in sixteen of that is not felt.
    verify: Annotated[Literal["off", "sampled", "full"], Kind("choice", str)] = Field(
        "sampled", description="Which blocks of large files are compared with their fingerprint when read."
    )
    # 0.2 % of one CPU (bench/README.md), little of an SSD; 720 GB a day: a cache of 1 TB takes a day and a half.
    scrub_rate_bytes: Size = Field(
        8 << 20, ge=0, le=16 << 30, description="How fast all of the cache is read and compared, per second; 0: never."
    )
    scrub_interval_s: Duration = Field(7 * 86400.0, ge=3600, le=366 * 86400, description="How often that begins anew.")


class UploadOptions(Section):
    """Write-back."""

    # Long enough for "write a temporary file, rename it over" and for editors' double saves; short enough that a
    # colleague looking into the bucket does not wait.
    settle_s: Duration = Field(2.0, ge=0, le=86400, description="Upload this long after the last change.")
    settle_max_s: Duration = Field(60.0, ge=0, le=86400, description="Upload at the latest this long after the first.")
    # 8 MiB is what the AWS tools use: 10,000 parts reach 78 GiB, beyond that parts grow by themselves.
    part_size_bytes: Size = Field(8 << 20, ge=5 << 20, le=5 << 30, description="Part size of multipart uploads.")
    workers: Count = Field(16, ge=1, le=256, description="Files uploaded at a time.")
    # Eight parts of 8 MiB keep a 1 Gbit/s link with 20 ms of delay busy many times over.
    memory_bytes: Size = Field(64 << 20, ge=8 << 20, le=64 << 30, description="Bytes of bodies in flight at a time.")
    conflicts: Annotated[Literal["bucket-wins", "gateway-wins"], Kind("choice", str)] = Field(
        "bucket-wins", description="Who keeps the name when both sides changed a file."
    )
    # What the Linux NFS client and nfs-ganesha make of a file that is removed while it is open: never meant to last.
    fsync: Annotated[Literal["disk", "bucket"], Kind("choice", str)] = Field(
        "disk", description="Where what was written is when fsync (and NFS COMMIT) returns."
    )
    # Below the three minutes after which Linux's NFS client gives a connection up and sends everything again.
    fsync_timeout_s: Duration = Field(120.0, ge=1, le=3600, description="How long such an fsync waits for the bucket.")
    exclude: Patterns = Field((".nfs*",), description="Names that never leave the site.")
    guess_mime_type: Flag = Field(True, description="Set the content type of new objects by file name.")


class ThrottleOptions(Section):
    """Bandwidth. What ``gatewayfs throttle`` sets is kept and wins until these values change."""

    upload: RateLimit = Field(None, description="What uploads may send at most.")
    download: RateLimit = Field(None, description="What downloads may fetch at most.")
    # Not the machine's zone: the same schedule must mean the same on every gateway unless somebody says otherwise.
    time_zone: TimeZone = Field("UTC", description="Whose clock the weekly schedule goes by.")


class MetadataOptions(Section):
    """Attributes of objects that carry none, and how long answers may be kept or waited for."""

    # File Gateway's defaults, so that a bucket looks the same through both.
    file_mode: Mode = Field(0o666, description="Mode of files whose object has no mode.")
    directory_mode: Mode = Field(0o777, description="Mode of directories whose marker has no mode, or without marker.")
    uid: Count = Field(65534, ge=0, le=ID_MAX, description="Owner of files whose object names none.")
    gid: Count = Field(65534, ge=0, le=ID_MAX, description="Group of files whose object names none.")
    # Everything that changes behind the kernel is invalidated explicitly, so this only bounds memory of old entries.
    kernel_timeout_s: Duration = Field(3600.0, ge=0, le=30 * 86400, description="How long the kernel keeps attributes.")
    # Below NFS clients' usual 60 s before they report a server as dead, above any healthy store's slowest answer.
    deadline_s: Duration = Field(30.0, ge=1, le=3600, description="How long one call may wait for the bucket.")


class MountOptions(Section):
    """The mount itself."""

    directory: AbsolutePath | None = Field(None, description="Where to mount when the command line names no directory.")
    allow_other: Flag = Field(description="Let users other than the daemon's see the mount.")
    options: FuseOptions = Field((), description="Further FUSE mount options.")

    @property
    def allow_nonempty(self) -> bool:
        """Whether mounting over a directory with entries was asked for."""
        return "nonempty" in self.options

    @property
    def fuse_options(self) -> frozenset[str]:
        """``options`` and ``allow_other`` as libfuse 3 takes them ("nonempty" is our own check there)."""
        return frozenset(self.options) - {"nonempty"} | ({"allow_other"} if self.allow_other else set())


class ShareConfig(Section):
    """One share, complete: what ``load`` returns."""

    share: ShareOptions
    s3: S3Options
    objects: ObjectsOptions
    cache: CacheOptions
    upload: UploadOptions
    throttle: ThrottleOptions
    metadata: MetadataOptions
    refresh: RefreshOptions
    identity: IdentityOptions
    mount: MountOptions
    export: ExportOptions
    events: EventsOptions
    log: LogOptions
    audit: AuditOptions
    health: HealthOptions


@dataclass(frozen=True, slots=True)
class Option:
    """One line of the option table."""

    name: str
    """As in ``--set name=value``."""
    section: str
    kind: Kind
    required: bool
    default: object
    """None: no value, or one that ``load`` derives."""
    description: str
    choices: tuple[str, ...] = ()

    @property
    def default_text(self) -> str:
        """As it would be written, or "" where there is none."""
        return "" if self.default is None else self.kind.write(self.default)


def options() -> Iterator[Option]:
    """Every option there is, section by section."""
    for section, outer in ShareConfig.model_fields.items():
        model = outer.annotation
        assert isinstance(model, type)
        assert issubclass(model, Section)
        for field_name, field in model.model_fields.items():
            name, kind = f"{section}.{option_name(field_name)}", _kind_of(field.annotation, field.metadata)
            required = field.is_required()
            default = None if required else field.default
            choices = getattr(field.annotation, "__args__", ()) if kind.word == "choice" else ()
            yield Option(name, section, kind, required, default, field.description or "", choices)


def _kind_of(annotation: Any, metadata: list[Any]) -> Kind:
    """The Kind among an Annotated's metadata; ``X | None`` keeps it one level down."""
    candidates = [*metadata]
    for argument in getattr(annotation, "__args__", ()):
        candidates += getattr(argument, "__metadata__", ())
    return next(item for item in candidates if isinstance(item, Kind))

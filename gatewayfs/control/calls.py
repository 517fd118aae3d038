"""The calls a gateway answers: names, arguments, results. ``daemon.py`` serves them, ``cli/`` shows them.

Names end with their unit (``_bytes``, ``_s``, ``_ns``, ``_bytes_per_s``); the command line renders by that ending, so
a new figure needs no change there. Every key of a result is optional to the reader: a newer command line must cope
with an older gateway and the other way round. Paths are relative to the mount, without a leading slash.
"""

from typing import Any, TypedDict

STATUS = "status"
STATISTICS = "statistics"
DRAIN = "drain"
REFRESH = "refresh"
LOOK = "look-again"
REFRESH_JOBS = "refresh-jobs"
REFRESH_CANCEL = "refresh-cancel"
CHECK = "check"
NOTIFY = "notify-when-uploaded"
THROTTLE = "throttle"
THROTTLE_SET = "throttle-set"
THROTTLE_SCHEDULE = "throttle-schedule"
WARM = "warm"
EVICT = "evict"
PIN = "pin"
UNPIN = "unpin"
QUEUE = "queue"
QUEUE_HOLD = "queue-hold"
QUEUE_RELEASE = "queue-release"
QUEUE_RETRY = "queue-retry"
QUEUE_NOW = "queue-now"
STOP = "stop"


class StatusResult(TypedDict, total=False):
    """Arguments: none."""

    share: dict[str, Any]
    """name, bucket, prefix, mountpoint, pid, version, uptime_s, endpoint_url"""
    cache: dict[str, Any]
    """directory, used_bytes, dirty_bytes, free_bytes, pinned: {...}, ..."""
    upload: dict[str, Any]
    """entries, entries_bytes (the queue), oldest_age_s, in_flight: [...], parked: [...], last_errors: [...], ..."""
    s3: dict[str, Any]
    """reachable, clock_skew_s, capabilities: {...}, requests and bytes ..."""
    metadata: dict[str, Any]
    """inodes, unusable_keys, ..."""
    events: dict[str, Any]
    """targets: {name: {waiting, oldest_age_s, dropped, last_error, ...}}, settling, notifications, outbox_bytes"""
    refresh: dict[str, Any]
    """events: {queue, received, applied, ignored, bad, lag_s, last_error, ...} where a queue is followed"""
    problems: list[str]
    """One line each: what is wrong, and its cure. Empty when all is well."""


class DrainArguments(TypedDict, total=False):
    wait: bool
    """Answer only when everything written before this call is in the bucket, or nothing more can be done about it."""
    timeout_s: float
    """Give up waiting after this long (absent: never)."""


class DrainProgress(TypedDict, total=False):
    files_total: int
    files_left: int
    bytes_total: int
    bytes_left: int
    bytes_per_s: float


class LeftBehind(TypedDict, total=False):
    path: str
    bytes: int
    reason: str


class DrainResult(TypedDict, total=False):
    files_left: int
    """How many are not in the bucket yet. Without ``wait``: how many were put to the front."""
    bytes_left: int
    held: int
    """How many of these are held: they stay here until somebody releases them."""
    left: list[LeftBehind]
    """The oldest hundred of them, with reasons."""


class NotifyArguments(TypedDict, total=False):
    wait: bool
    """Answer only when everything written before this call is in the bucket."""
    timeout_s: float
    """With ``wait``: answer after this long in any case; the request stays open."""


class NotifyResult(TypedDict, total=False):
    notification_id: str
    """A UUID, which the event will carry."""
    request_received: str
    completed: str | None
    """Both UTC, ISO 8601; None: not yet."""


class RefreshArguments(TypedDict, total=False):
    folders: list[str]
    """"" is the root of the mount."""
    recursive: bool
    wait: bool
    """Answer only when it has ended; progress frames have the counters of ``RefreshReport`` and ``names_total``."""


class RefreshReport(TypedDict, total=False):
    """What a refresh did so far."""

    listed: int
    """Directories compared with the bucket; the other figures count names in them."""
    names: int
    added: int
    changed: int
    removed: int
    kept_dirty: int
    """Not uploaded here, and different in the bucket."""
    conflicts: int
    """Of those: where others put another object."""
    shadowed: int
    unrepresentable: int
    lists: int
    heads: int
    errors: list[str]


class RefreshJob(TypedDict, total=False):
    """Answers REFRESH; REFRESH_JOBS, which has no arguments, answers ``{"running": [jobs], "recent": [jobs]}``.

    REFRESH_CANCEL takes ``{"notification_id"}``.
    """

    notification_id: str
    """A UUID, which the event will carry."""
    state: str
    """running, done, failed, cancelled"""
    reason: str
    """Why it failed; of a running one, what it waits for."""
    folders: list[str]
    recursive: bool
    cause: str
    """command or schedule"""
    started: str
    completed: str | None
    """Both UTC, ISO 8601; None: not yet."""
    elapsed_s: float
    report: RefreshReport


class LookArguments(TypedDict, total=False):
    """Objects that are said to have changed."""

    paths: list[str]
    messages: list[str]
    """Notifications, each as it came (``refresh.notices``)."""


class LookResult(TypedDict, total=False):
    looked: int
    """How many keys the bucket was asked for; what it answered is shown."""
    unaffected: int
    """Keys that nothing here depends on, or that the upload of a local change will see to."""
    waiting: int
    """Keys of which a change made here is on its way, after ten seconds still."""
    ignored: int
    """Parts of messages that concern other buckets or prefixes, or change nothing that is shown."""
    bad: int
    """Messages in no known form."""
    failed: int
    failures: list[str]
    """Of those the first twenty, with reasons."""


class CheckArguments(TypedDict, total=False):
    scrub: bool
    """Not the records: read everything in the cache from the disk, and compare it. Progress: checked_bytes."""


class CheckResult(TypedDict, total=False):
    problems: list[str]
    """One line each; empty when records, cache files and queue agree. Further keys are counts of what was looked at."""


class ThrottleState(TypedDict, total=False):
    """One direction."""

    limit_bytes_per_s: int | None
    """What counts now; None: no limit."""
    limit_from: str | None
    """configuration, set, or schedule"""
    rate_bytes_per_s: float
    """Mean over the last ten seconds, heads of requests included."""
    total_bytes: int


class ThrottleResult(TypedDict, total=False):
    """Answers all three calls. THROTTLE has no arguments."""

    upload: ThrottleState
    download: ThrottleState
    interval: str | None
    """The one in effect."""
    time_zone: str
    intervals: list[dict[str, Any]]
    """As AWS Storage Gateway writes them (``runtime.weekly``)."""


class ThrottleSetArguments(TypedDict, total=False):
    """null: no limit; absent: as it is."""

    upload_bytes_per_s: int | None
    download_bytes_per_s: int | None


class ThrottleScheduleArguments(TypedDict):
    intervals: list[dict[str, Any]]
    """The whole new schedule; empty removes it."""


class QueueArguments(TypedDict, total=False):
    path: str
    """Entries at and below it; "" or absent: all."""
    after: list[Any] | None
    """As the page before said."""
    limit: int
    """At most 5,000 come at a time."""


class QueueEntry(TypedDict, total=False):
    path: str
    work: str
    """upload, rename, attributes, delete"""
    state: str
    """settling, ready, in flight, backing off, blocked, parked, held, excluded"""
    reason: str
    size_bytes: int
    age_s: float
    retry_s: float
    """It is looked at again after this; 0: not known."""
    sent_bytes: int
    """In flight, in parts: what has arrived."""


class QueueResult(TypedDict, total=False):
    entries: list[QueueEntry]
    """The oldest first."""
    after: list[Any] | None
    """Asks for the next page; null: there is none."""


class QueuePaths(TypedDict, total=False):
    """Of QUEUE_HOLD, QUEUE_RELEASE, QUEUE_RETRY and QUEUE_NOW."""

    paths: list[str]
    """At most 100; none: the whole share."""


class QueueHolds(TypedDict, total=False):
    """Answers QUEUE_HOLD and QUEUE_RELEASE; the other two answer ``{"entries": how many}``."""

    holds: list[dict[str, Any]]
    """path ("" is the whole share) and since_ns of everything that is held now."""


class TreeArguments(TypedDict, total=False):
    """Of WARM, EVICT, PIN and UNPIN."""

    paths: list[str]
    """"" is the root of the mount; a directory stands for everything below it."""


class TreeResult(TypedDict, total=False):
    """Answers WARM, EVICT, PIN and UNPIN; progress frames have the first two."""

    files: int
    bytes: int
    files_left: int
    left: list[LeftBehind]
    """The first hundred that could not be fetched, or had to stay, with reasons."""


class StopArguments(TypedDict, total=False):
    reason: str
    """For the log. The answer ({}) comes before the gateway ends; nothing is drained."""

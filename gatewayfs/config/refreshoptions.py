"""The options of refresh: how, and when, the gateway finds what others change in the bucket."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from gatewayfs.config import units
from gatewayfs.config.kinds import Duration, EndpointUrl, Flag, Kind, QueueAddress, Text, TimeZone, written_list
from gatewayfs.config.section import Section


def _refresh_ttl(value: object) -> object:
    seconds = units.parse_duration(value)
    if seconds and not 1 <= seconds <= 30 * 86400:
        raise ValueError('write "0s" for off, or a time between "1s" and "30d"')
    return seconds


def _moments(value: object) -> object:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError('write a list like ["daily 03:00", "Sat,Sun 12:30"]')
    for item in items:
        units.parse_moment(item)
    return tuple(items)


RefreshTtl = Annotated[float, BeforeValidator(_refresh_ttl), Kind("duration", units.format_duration)]
Moments = Annotated[tuple[str, ...], BeforeValidator(_moments), Kind("list of text", written_list)]


class RefreshOptions(Section):
    """How changes that others make in the bucket are found."""

    events: QueueAddress | None = Field(None, description="SQS queue with the bucket's event notifications.")
    events_region: Text | None = Field(None, description="Its region, if the address does not say it.")
    events_endpoint_url: EndpointUrl | None = Field(None, description="Where the service is, if it is not AWS's.")
    events_profile: Text | None = Field(None, description="Credentials for the queue, if not those for the bucket.")
    ttl_s: RefreshTtl = Field(0.0, description="How old the listing of a directory may be that a program looks into.")
    # As File Gateway: who looks waits for the LIST, and sees what is there now.
    stale_while_revalidate: Flag = Field(False, description="Answer from the old listing and look in the background.")
    # Long enough for a slow LIST of a few thousand names, short enough for somebody in front of a screen.
    wait_s: Duration = Field(5.0, ge=0.1, le=600, description="How long one call may wait for a listing to be renewed.")
    schedule: Moments = Field((), description="When to refresh the whole share.")
    time_zone: TimeZone = Field("UTC", description="Whose clock the schedule goes by.")


EVENTS_ONLY = ("events_region", "events_endpoint_url", "events_profile")
"""Mean nothing without a queue."""

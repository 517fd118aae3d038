"""The options of events: who is told what happens to a share, and when."""

from pydantic import Field

from gatewayfs.config.kinds import AbsolutePath, CommandLine, Duration, Size, Text, WebhookUrl
from gatewayfs.config.section import Section


class EventsOptions(Section):
    """Who is told what happens: any of a file, a command and a webhook."""

    file: AbsolutePath | None = Field(None, description="Append events to this file, a line each.")
    command: CommandLine = Field((), description="Start this program for each event.")
    # A program that asks another service may wait for it; one that hangs must not hold the rest for long.
    command_timeout_s: Duration = Field(30.0, ge=1, le=3600, description="How long the program may take.")
    webhook: WebhookUrl | None = Field(None, description="POST each event to this address.")
    webhook_timeout_s: Duration = Field(10.0, ge=1, le=600, description="How long the web service may take.")
    webhook_headers_file: AbsolutePath | None = Field(None, description="File with headers to send along, mode 0600.")
    webhook_ca_bundle: AbsolutePath | None = Field(None, description="PEM file of the authorities to trust for it.")
    # File Gateway's own example; long enough for a file that is written in several goes to be told once.
    settle_s: Duration = Field(60.0, ge=0, le=86400, description="Tell of an upload this long after the last change.")
    # About 100,000 events: a busy day of a target that is down, and little on any cache disk.
    outbox_bytes: Size = Field(64 << 20, ge=1 << 20, le=16 << 30, description="What may wait for targets.")
    source: Text = Field("gatewayfs", description="The source that events name.")

"""The options of looking again at what others change in the bucket."""

from pydantic import Field

from gatewayfs.config.kinds import EndpointUrl, QueueAddress, Text
from gatewayfs.config.section import Section


class RefreshOptions(Section):
    """How changes that others make in the bucket are found."""

    events: QueueAddress | None = Field(None, description="SQS queue with the bucket's event notifications.")
    events_region: Text | None = Field(None, description="Its region, if the address does not say it.")
    events_endpoint_url: EndpointUrl | None = Field(None, description="Where the service is, if it is not AWS's.")
    events_profile: Text | None = Field(None, description="Credentials for the queue, if not those for the bucket.")


EVENTS_ONLY = ("events_region", "events_endpoint_url", "events_profile")
"""Mean nothing without a queue."""

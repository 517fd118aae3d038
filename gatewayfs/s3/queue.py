"""A queue of messages about the bucket, as the rest of the program sees it; ``sqs.py`` is the real one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gatewayfs.errors import GatewayError

RECEIVED_MAX = 10
"""Messages per request, to receive and to delete: SQS's own limit."""

VISIBILITY_S = 30
"""A message that was received and not deleted comes again after this: several times what applying a full hand takes,
and how late news may be after a gateway ended in the middle."""


class QueueError(GatewayError):
    """The queue refused, or did not answer. One line, without secrets."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        receipt: deletes it; another one with every delivery.
        sent_ns: when it was sent; 0 where the queue does not say.
    """

    receipt: str
    body: str
    sent_ns: int


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What a queue says of itself.

    Attributes:
        arn: its name, or "".
        messages: how many wait, about.
        dead_letters: what is received again and again goes to another queue.
    """

    arn: str
    messages: int
    dead_letters: bool


class Queue(Protocol):
    """Where messages come from. Every call raises QueueError."""

    @property
    def address(self) -> str:
        """For people."""
        ...

    async def receive(self) -> list[Message]:
        """Up to ``RECEIVED_MAX`` messages; waits some seconds for the first. Each comes at least once, in no order."""
        ...

    async def delete(self, receipts: Sequence[str]) -> None:
        """Up to ``RECEIVED_MAX`` messages are done with. One that was deleted before is fine."""
        ...

    async def facts(self) -> QueueFacts:
        """What the queue says of itself."""
        ...

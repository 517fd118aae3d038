"""Amazon SQS, or what speaks like it, through botocore: credentials, regions and addresses as all programs have them.

Imported only where a queue is configured. Beside the client that resolves the bucket this one costs half a MiB; a quiet
queue costs a request every twenty seconds. Each call takes a thread; the one that waits for messages is left to itself
when the gateway stops, and what it may still receive comes again to the next one.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from gatewayfs.errors import UserError
from gatewayfs.runtime.offload import Offload
from gatewayfs.s3.boto import REGION_DEFAULT, StoreOptions, session_for
from gatewayfs.s3.queue import RECEIVED_MAX, VISIBILITY_S, Message, QueueError, QueueFacts

T = TypeVar("T")

WAIT_S = 20
"""How long an empty queue holds a request: SQS's maximum, the fewest requests."""

ANSWER_S = 10
CONNECT_S = 5

_ARN = re.compile(r"arn:[a-z0-9-]+:sqs:([a-z0-9-]+):([0-9]{12}):([A-Za-z0-9_.-]{1,80})")
_HOST_REGION = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com(?:\.cn)?")
_DENIED = ("AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken")


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Where a queue is, and how it is reached; "" leaves it to the address, then to boto3's rules.

    Attributes:
        address: its URL or ARN.
        store: how the bucket is reached: credentials, proxy and authorities are the same.
        profile: other credentials than the bucket's.
    """

    address: str
    store: StoreOptions
    region: str = ""
    endpoint_url: str = ""
    profile: str = ""


def region_of(address: str) -> str:
    """The region that an address names, or ""."""
    if arn := _ARN.fullmatch(address):
        return arn[1]
    host = _HOST_REGION.fullmatch(urlsplit(address).hostname or "")
    return (host[1] or host[2]) if host else ""


class SqsQueue:
    """One queue. Raises UserError when it cannot be told how to reach it."""

    def __init__(self, options: QueueOptions) -> None:
        self.address = options.address
        arn = _ARN.fullmatch(options.address)
        url = urlsplit(options.address)
        endpoint = options.endpoint_url or ("" if arn else f"{url.scheme}://{url.netloc}")
        try:
            self._client = _client(options, endpoint)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise UserError(
                f"cannot tell how to reach the queue {self.address}: {error}", "check refresh.events"
            ) from error
        self._url = f"{self._client.meta.endpoint_url.rstrip('/')}/{arn[2]}/{arn[3]}" if arn else options.address
        self._receiving, self._telling = Offload(1), Offload(1)

    def __repr__(self) -> str:
        return f"<SqsQueue {self.address}>"

    async def receive(self) -> list[Message]:
        """See ``Queue``."""
        return await self._receiving.run(self._receive, abandon_on_cancel=True)

    async def delete(self, receipts: Sequence[str]) -> None:
        """See ``Queue``."""
        await self._telling.run(self._delete, receipts, abandon_on_cancel=True)

    async def facts(self) -> QueueFacts:
        """See ``Queue``."""
        return await self._telling.run(self._facts, abandon_on_cancel=True)

    async def try_out(self) -> None:
        """Whether messages may be received and deleted; none is. Raises QueueError."""
        await self._telling.run(self._try_out, abandon_on_cancel=True)

    def close(self) -> None:
        self._client.close()

    # ------------------------------------------------------------------ in threads

    def _receive(self) -> list[Message]:
        answer = self._call(
            lambda: self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=RECEIVED_MAX,
                WaitTimeSeconds=WAIT_S,
                VisibilityTimeout=VISIBILITY_S,
                MessageSystemAttributeNames=["SentTimestamp"],
            )
        )
        return [_message(found) for found in answer.get("Messages") or ()]

    def _try_out(self) -> None:
        self._call(
            lambda: self._client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=1, WaitTimeSeconds=0, VisibilityTimeout=0
            )
        )
        self._delete(["none"])

    def _delete(self, receipts: Sequence[str]) -> None:
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        answer = self._call(lambda: self._client.delete_message_batch(QueueUrl=self._url, Entries=entries))
        for failed in answer.get("Failed") or ():
            # A receipt that is too old: the message has come again meanwhile, or will.
            if not failed.get("SenderFault", True) or failed.get("Code") in _DENIED:
                raise QueueError(f"{self.address}: cannot delete messages: {failed.get('Code')}")

    def _facts(self) -> QueueFacts:
        names = ["QueueArn", "ApproximateNumberOfMessages", "RedrivePolicy"]
        answer = self._call(lambda: self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names))
        said = answer.get("Attributes") or {}
        return QueueFacts(
            arn=str(said.get("QueueArn", "")),
            messages=_number(said.get("ApproximateNumberOfMessages")),
            dead_letters=_redrives(said.get("RedrivePolicy")),
        )

    def _call(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except ClientError as error:
            code, text = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
            raise QueueError(f"{self.address}: {code or 'refused'}: {text}".rstrip(": ")) from error
        except EndpointConnectionError as error:
            raise QueueError(f"{self.address}: cannot be reached") from error
        except BotoCoreError as error:
            raise QueueError(f"{self.address}: {error}") from error


def _client(options: QueueOptions, endpoint: str) -> Any:
    session, keys = session_for(options.store, options.profile)
    region = options.region or region_of(options.address) or options.store.region
    proxy = options.store.proxy
    return session.create_client(
        "sqs",
        region_name=region or session.get_config_variable("region") or REGION_DEFAULT,
        endpoint_url=endpoint or None,
        verify=options.store.ca_bundle or None,
        config=Config(
            connect_timeout=CONNECT_S,
            read_timeout=WAIT_S + ANSWER_S,
            # When to try again is decided above, where it is also shown.
            retries={"total_max_attempts": 1},
            proxies={"http": proxy, "https": proxy} if proxy else None,
            max_pool_connections=2,
        ),
        **keys,
    )


def notified_arns(bucket: str, store: StoreOptions) -> set[str]:
    """Where a bucket sends its events: queues, topics, "EventBridge". Blocks. Raises QueueError."""
    try:
        session, keys = session_for(store, "")
        client = session.create_client(
            "s3",
            region_name=store.region or session.get_config_variable("region") or REGION_DEFAULT,
            endpoint_url=store.endpoint_url or None,
            verify=store.ca_bundle or None,
            config=Config(
                connect_timeout=CONNECT_S,
                read_timeout=ANSWER_S,
                retries={"total_max_attempts": 1},
                proxies={"http": store.proxy, "https": store.proxy} if store.proxy else None,
                s3={"addressing_style": store.addressing},
            ),
            **keys,
        )
        try:
            said = client.get_bucket_notification_configuration(Bucket=bucket)
        finally:
            client.close()
    except (BotoCoreError, ClientError, UserError) as error:
        raise QueueError(str(error)) from error
    found = {item["QueueArn"] for item in said.get("QueueConfigurations") or ()}
    found |= {item["TopicArn"] for item in said.get("TopicConfigurations") or ()}
    return found | ({"EventBridge"} if "EventBridgeConfiguration" in said else set())


def _message(found: dict[str, Any]) -> Message:
    sent_ms = _number((found.get("Attributes") or {}).get("SentTimestamp"))
    return Message(str(found["ReceiptHandle"]), str(found.get("Body", "")), sent_ms * 1_000_000)


def _number(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isdigit() else 0


def _redrives(policy: Any) -> bool:
    try:
        return bool(json.loads(policy).get("deadLetterTargetArn")) if isinstance(policy, str) else False
    except (ValueError, AttributeError):
        return False

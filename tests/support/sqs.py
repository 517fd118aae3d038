"""A queue on moto's SQS, and a bucket that tells it what happens."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import boto3

from tests.support.s3server import Bucket

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class TestQueue:
    """A queue, and boto3's client for it."""

    __test__ = False

    url: str
    arn: str
    sqs: Any

    def send(self, body: str) -> None:
        """Any message."""
        self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def tell(self, bucket: str, *keys: str, event: str = "ObjectCreated:Put", **thing: str) -> None:
        """What S3 says of objects."""
        told = [s3_record(bucket, key, event, **thing) for key in keys]
        for start in range(0, len(told), 10):
            entries = [
                {"Id": str(number), "MessageBody": json.dumps({"Records": [record]})}
                for number, record in enumerate(told[start : start + 10])
            ]
            self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)

    def waiting(self) -> int:
        """Messages that are not deleted."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        said = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(said[name]) for name in names)

    def watch(self, bucket: Bucket) -> None:
        """Have the bucket tell this queue of every object that is put or removed."""
        bucket.s3.put_bucket_notification_configuration(
            Bucket=bucket.name,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {"QueueArn": self.arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]},
                ]
            },
        )


def s3_record(bucket: str, key: str, event: str, **thing: str) -> dict[str, Any]:
    """One record of an S3 event notification."""
    what = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/"), **thing}}
    return {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": event, "s3": what}


@contextmanager
def fresh_queue(endpoint_url: str, **attributes: str) -> Iterator[TestQueue]:
    """A new empty queue on a moto server, removed afterwards."""
    sqs = boto3.client("sqs", endpoint_url=endpoint_url, region_name=REGION)
    url = sqs.create_queue(QueueName=f"gatewayfs-{uuid.uuid4().hex[:12]}", Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    try:
        yield TestQueue(url, arn, sqs)
    finally:
        sqs.delete_queue(QueueUrl=url)
        sqs.close()

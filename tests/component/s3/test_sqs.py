"""The real client of the queue, against moto's SQS."""

import json

import pytest
import trio

from gatewayfs.errors import UserError
from gatewayfs.s3.boto import StoreOptions
from gatewayfs.s3.queue import QueueError
from gatewayfs.s3.sqs import QueueOptions, SqsQueue, region_of
from tests.support.moto import free_port
from tests.support.sqs import fresh_queue


@pytest.fixture
def queue(moto_endpoint):
    with fresh_queue(moto_endpoint) as made:
        yield made


@pytest.fixture
def opened():
    made = []

    def open_queue(address, **options):
        made.append(SqsQueue(QueueOptions(address, **{"store": StoreOptions(), **options})))
        return made[-1]

    yield open_queue
    for each in made:
        each.close()


async def received(queue, count):
    found = []
    with trio.fail_after(30):
        while len(found) < count:
            found += await queue.receive()
    return found


async def test_messages_come_with_their_time_and_go_when_deleted(queue, opened):
    ours = opened(queue.url)
    for number in range(12):
        queue.send(f"message {number}")
    found = await received(ours, 12)
    assert sorted(message.body for message in found) == sorted(f"message {number}" for number in range(12))
    assert all(message.sent_ns > 1_700_000_000 * 10**9 for message in found)
    assert (await ours.facts()).arn == queue.arn
    receipts = [message.receipt for message in found]
    await ours.delete(receipts[:10])
    await ours.delete(receipts[10:])
    await ours.delete(receipts[10:])
    assert queue.waiting() == 0


async def test_an_arn_and_an_endpoint_find_the_same_queue(queue, opened, moto_endpoint):
    ours = opened(queue.arn, endpoint_url=moto_endpoint)
    queue.send("hello")
    assert [message.body for message in await received(ours, 1)] == ["hello"]


async def test_a_dead_letter_queue_is_seen(moto_endpoint, opened):
    with fresh_queue(moto_endpoint) as dead:
        policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 5})
        with fresh_queue(moto_endpoint, RedrivePolicy=policy) as queue:
            assert (await opened(queue.url).facts()).dead_letters
            assert not (await opened(dead.url).facts()).dead_letters


async def test_trouble_is_one_line_with_the_queue_in_it(moto_endpoint, opened):
    missing = f"{moto_endpoint}/123456789012/missing"
    for address in (missing, f"http://127.0.0.1:{free_port()}/123456789012/x"):
        ours = opened(address)
        for call in (ours.receive, ours.facts, lambda ours=ours: ours.delete(["x"])):
            with pytest.raises(QueueError) as caught:
                await call()
            assert address in str(caught.value)
            assert "\n" not in str(caught.value)


async def test_waiting_for_messages_is_left_at_once(queue, opened):
    ours = opened(queue.url)
    with trio.fail_after(5), trio.move_on_after(0.2):
        await ours.receive()


def test_separate_credentials_are_another_section_of_the_same_file(tmp_path, opened):
    keys = tmp_path / "keys"
    keys.write_text(
        "[default]\naws_access_key_id = AAAA\naws_secret_access_key = secret-a\n"
        "[queue]\naws_access_key_id = BBBB\naws_secret_access_key = secret-b\n"
    )
    store = StoreOptions(credentials_file=str(keys))
    address = "https://sqs.eu-west-1.amazonaws.com/123456789012/photos"
    for profile, expected in (("", "AAAA"), ("queue", "BBBB")):
        client = opened(address, store=store, profile=profile)._client
        assert client._request_signer._credentials.access_key == expected
        assert client.meta.region_name == "eu-west-1"
    with pytest.raises(UserError):
        opened(address, store=store, profile="missing")


@pytest.mark.parametrize(
    ("address", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/photos", "eu-west-1"),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/photos", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/photos", "cn-north-1"),
        ("arn:aws:sqs:us-gov-west-1:123456789012:photos", "us-gov-west-1"),
        ("http://127.0.0.1:4566/123456789012/photos", ""),
    ],
)
def test_the_address_names_the_region(address, region):
    assert region_of(address) == region


def test_an_arn_alone_is_found_where_aws_has_it(opened):
    ours = opened("arn:aws:sqs:eu-west-1:123456789012:photos")
    assert ours._url == "https://sqs.eu-west-1.amazonaws.com/123456789012/photos"

"""What events look like, against literal examples of AWS Storage Gateway's."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.events import envelope
from gatewayfs.events.envelope import Origin

ORIGIN = Origin(
    share="photos",
    gateway="office",
    bucket="my-bucket",
    prefix="prefix/",
    region="us-east-1",
    account="123456789012",
    source="aws.storagegateway",
)
PLACE = "arn:gatewayfs:storagegateway:us-east-1:123456789012"
IDENTITY = "2649b160-d59d-c97f-3f64-8aaa9ea6aed3"
NOTIFICATION = "11b3106b-a18a-4890-9d47-a1a755ef5e47"
NS = 10**9
AT = 1_604_579_696 * NS  # 2020-11-05T12:34:56Z


def event(news):
    line = envelope.written(ORIGIN, news, IDENTITY, AT + 999_999_999)
    assert b"\n" not in line
    return json.loads(line)


def wrapped(detail_type, detail, *, bucket=False):
    resources = [f"{PLACE}:share/photos", f"{PLACE}:gateway/office"]
    return {
        "version": "0",
        "id": IDENTITY,
        "detail-type": detail_type,
        "source": "aws.storagegateway",
        "account": "123456789012",
        "time": "2020-11-05T12:34:56Z",
        "region": "us-east-1",
        "resources": [*resources, "arn:aws:s3:::my-bucket"] if bucket else resources,
        "detail": detail,
    }


def test_an_upload_is_told_as_file_gateway_tells_it():
    news = envelope.object_uploaded(ORIGIN, "prefix/my-file.txt", 1024, 1_578_141_000 * NS)
    detail = {
        "object-size": 1024,
        "modification-time": "2020-01-04T12:30:00Z",
        "object-key": "my-file.txt",
        "event-type": "object-upload-complete",
        "prefix": "prefix/",
        "bucket-name": "my-bucket",
    }
    assert event(news) == wrapped("Storage Gateway Object Upload Event", detail, bucket=True)


def test_a_notification_is_told_as_file_gateway_tells_it():
    news = envelope.all_uploaded(NOTIFICATION, 1_517_952_882 * NS, 1_517_952_893 * NS)
    detail = {
        "event-type": "upload-complete",
        "notification-id": NOTIFICATION,
        "request-received": "2018-02-06T21:34:42Z",
        "completed": "2018-02-06T21:34:53Z",
    }
    assert event(news) == wrapped("Storage Gateway File Upload Event", detail)


@pytest.mark.parametrize(("folders", "told"), [([""], ["/"]), (["a", "/b/c/"], ["/a", "/b/c"])])
def test_a_refresh_is_told_as_file_gateway_tells_it(folders, told):
    news = envelope.refreshed(NOTIFICATION, 1_517_952_882 * NS, 1_517_952_893 * NS, folders)
    detail = {
        "event-type": "refresh-complete",
        "notification-id": NOTIFICATION,
        "started": "2018-02-06T21:34:42Z",
        "completed": "2018-02-06T21:34:53Z",
        "folderList": told,
    }
    assert event(news) == wrapped("Storage Gateway Refresh Cache Event", detail)


def test_a_conflict_says_who_kept_the_name_and_where_the_other_went():
    news = envelope.conflict(ORIGIN, "prefix/a/b", "keep-both", "bucket", "prefix/a/b.conflict-gw")
    detail = {
        "event-type": "conflict",
        "resolution": "keep-both",
        "kept-by": "bucket",
        "object-key": "a/b",
        "copy-key": "a/b.conflict-gw",
        "prefix": "prefix/",
        "bucket-name": "my-bucket",
    }
    assert event(news) == wrapped("GatewayFS Conflict Event", detail, bucket=True)


@given(st.text(st.characters()))
def test_any_key_is_one_line_of_printable_ascii_and_comes_back_whole(key):
    line = envelope.written(ORIGIN, envelope.object_uploaded(ORIGIN, "prefix/" + key, 0, 0), IDENTITY, AT)
    assert all(0x20 <= byte < 0x7F for byte in line)
    assert json.loads(line)["detail"]["object-key"] == key


@pytest.mark.parametrize(("time_ns", "text"), [(-(2**63), "1970-01-01T00:00:00Z"), (2**80, "9999-12-31T23:59:59Z")])
def test_a_time_nobody_can_write_does_not_break_an_event(time_ns, text):
    assert envelope.utc(time_ns) == text

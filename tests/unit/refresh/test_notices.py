"""Messages that say what changed: every form there is, and everything that is none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.events import envelope
from gatewayfs.refresh.notices import BadMessage, Notice, Reading, read

BUCKET = "photos"


def record(key, event="ObjectCreated:Put", bucket=BUCKET, source="aws:s3", **thing):
    what = {"bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"}, "object": {"key": key, **thing}}
    return {"eventVersion": "2.1", "eventSource": source, "eventName": event, "s3": what}


def message(*records):
    return json.dumps({"Records": list(records)})


def bridge(kind, key, **detail):
    thing = {"key": key} | detail.pop("object", {})
    return json.dumps(
        {"version": "0", "source": "aws.s3", "detail-type": kind}
        | {"detail": {"version": "0", "bucket": {"name": BUCKET}, "object": thing, **detail}}
    )


def wrapped(text):
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": text})


def of_gateway(news, prefix=""):
    made = envelope.Origin(share="s", gateway="g", bucket=BUCKET, prefix=prefix)
    return envelope.written(made, news(made), "id", 0)


def test_s3_says_what_was_created_with_an_encoded_key():
    told = read(message(record("site/red+flower%2B%C3%BC.jpg", size=3, eTag="abc", sequencer="00")), BUCKET, "site/")
    assert told == Reading((Notice("site/red flower+ü.jpg", etag="abc"),))


def test_minio_encodes_slashes_and_ceph_nothing():
    minio = record("a%2Fb.txt", "s3:ObjectCreated:Put", source="minio:s3", eTag="e", versionId="1")
    assert read(json.dumps({"EventName": "s3:x", "Key": "photos/a/b.txt", "Records": [minio]}), BUCKET, "").notices == (
        Notice("a/b.txt", etag="e"),
    )
    ceph = record("100%+1", "ObjectCreated:Put", source="ceph:s3", size="1", eTag='"e"', versionId="")
    assert read(message(ceph), BUCKET, "").notices == (Notice("100%+1", etag="e"),)


@pytest.mark.parametrize(
    ("event", "version", "gone"),
    [
        ("ObjectRemoved:Delete", "", True),
        ("ObjectRemoved:Delete", "v1", False),
        ("ObjectRemoved:DeleteMarkerCreated", "v2", True),
        ("s3:ObjectRemoved:DeleteMarkerCreated", "v2", True),
        ("LifecycleExpiration:Delete", "", True),
        ("LifecycleExpiration:DeleteMarkerCreated", "v", True),
        ("ObjectLifecycle:Expiration:Current", "", True),
    ],
)
def test_removing_a_version_may_bring_another_one_back(event, version, gone):
    told = read(message(record("k", event, eTag="not that of anything there", versionId=version)), BUCKET, "")
    assert told.notices == (Notice("k", gone),)


def test_by_way_of_eventbridge_keys_are_plain():
    created = bridge("Object Created", "red+flower 100%.jpg", object={"etag": "e", "size": 1}, reason="PutObject")
    assert read(created, BUCKET, "").notices == (Notice("red+flower 100%.jpg", etag="e"),)
    deleted = bridge("Object Deleted", "k", object={"version-id": "v"}, **{"deletion-type": "Delete Marker Created"})
    assert read(deleted, BUCKET, "").notices == (Notice("k", gone=True),)
    version = bridge("Object Deleted", "k", object={"version-id": "v"}, **{"deletion-type": "Permanently Deleted"})
    assert read(version, BUCKET, "").notices == (Notice("k"),)
    assert read(bridge("Object Tags Added", "k"), BUCKET, "") == Reading(ignored=1)


def test_sns_wraps_any_form_once():
    inner = message(record("k", eTag="e"))
    assert read(wrapped(inner), BUCKET, "") == Reading((Notice("k", etag="e"),))
    with pytest.raises(BadMessage):
        read(wrapped(wrapped(inner)), BUCKET, "")


def test_a_gateways_own_events_are_understood():
    uploaded = of_gateway(lambda o: envelope.object_uploaded(o, "site/a/b", 1, 0), prefix="site/")
    assert read(uploaded, BUCKET, "") == Reading((Notice("site/a/b"),))
    assert read(uploaded, BUCKET, "other/") == Reading(ignored=1)
    conflict = of_gateway(lambda o: envelope.conflict(o, "k", "keep-both", "bucket", "k.conflict-x"))
    assert read(conflict, BUCKET, "").notices == (Notice("k"), Notice("k.conflict-x"))
    assert read(of_gateway(lambda o: envelope.refreshed("i", 0, 1, ["/"])), BUCKET, "") == Reading(ignored=1)


def test_what_concerns_others_or_changes_nothing_is_ignored_and_counted():
    told = read(
        message(
            record("site/k"),
            record("site/k", bucket="other"),
            record("elsewhere/k"),
            record("site/k", "ObjectTagging:Put"),
            record("site/k", "ObjectRestore:Completed"),
            record("site/k", "Replication:OperationNotTracked"),
        ),
        BUCKET,
        "site/",
    )
    assert told == Reading((Notice("site/k"),), ignored=5)
    test = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET, "RequestId": "x"})
    assert read(test, BUCKET, "") == Reading(ignored=1)


def test_two_that_differ_about_one_key_are_one_look_without_hints():
    both = message(record("k", eTag="1"), record("k", eTag="2"), record("j", eTag="1"), record("j", eTag="1"))
    assert read(both, BUCKET, "").notices == (Notice("k"), Notice("j", etag="1"))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "{}",
        "7",
        "not json",
        b"\xff\xfe",
        '{"Records": 5}',
        '{"Records": [1]}',
        '{"Records": [{"s3": {}}]}',
        '{"detail-type": "Object Created", "detail": {}}',
        '{"detail-type": "Object Created", "detail": []}',
        '{"detail-type": "Storage Gateway Object Upload Event", "detail": {"object-key": "k"}}',
        message(record("%ff")),
        message(record("")),
        message(record(["k"])),
        bridge("Object Created", "\ud800"),
        "[" * 100_000,
        '{"a":' * 100_000,
        "x" * (3 << 20),
        json.dumps({"Records": [{}] * 10_001}),
        json.dumps({"TopicArn": "t", "Message": "no json"}),
    ],
)
def test_garbage_is_called_garbage_and_never_quoted(body):
    with pytest.raises(BadMessage) as caught:
        read(body, BUCKET, "")
    assert len(str(caught.value)) < 40


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.data())
def test_whatever_replaces_a_part_of_a_message_it_is_read_or_called_garbage(data):
    told = json.loads(data.draw(st.sampled_from([message(record("a+b", eTag="e")), bridge("Object Created", "k")])))
    at = told
    while True:  # somewhere down the tree
        place = data.draw(st.sampled_from(sorted(at)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
        if not isinstance(at[place], dict | list) or not at[place] or data.draw(st.booleans()):
            break
        at = at[place]
    at[place] = data.draw(json_values)
    try:
        found = read(json.dumps(told), BUCKET, "")
    except BadMessage:
        return
    assert all(isinstance(notice.key, str) and notice.key.encode() for notice in found.notices)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_anything_at_all_is_read_or_called_garbage(body):
    try:
        read(body, BUCKET, "")
    except BadMessage:
        return


@given(st.text(min_size=1).filter(lambda key: key.isprintable()))
def test_a_key_survives_the_encoding_of_every_form(key):
    from urllib.parse import quote_plus

    expected = (Notice(key),)
    assert read(message(record(quote_plus(key))), BUCKET, "").notices == expected
    assert read(message(record(quote_plus(key, safe="/"))), BUCKET, "").notices == expected
    assert read(message(record(key, source="ceph:s3")), BUCKET, "").notices == expected
    assert read(bridge("Object Created", key), BUCKET, "").notices == expected
    uploaded = of_gateway(lambda o: envelope.object_uploaded(o, key, 1, 0))
    assert read(uploaded, BUCKET, "").notices == expected

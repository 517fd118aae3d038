"""The documents and headers of S3 as plain values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.errors import BadResponse, StoreRefused
from gatewayfs.refresh.diff import read_page
from gatewayfs.refresh.settings import Oddities
from gatewayfs.s3 import xml
from gatewayfs.s3.headers import condition_headers, object_headers, object_info, parse_http_date
from gatewayfs.s3.store import Condition, Deletion, ObjectHeaders, Part
from gatewayfs.s3.wire import Reply
from gatewayfs.s3.xml import NotXml, parse_grants
from gatewayfs.types import ETag, ObjectKey

LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult{namespace}><Name>b</Name><Prefix>p%2F</Prefix><EncodingType>url</EncodingType>
<IsTruncated>true</IsTruncated><NextContinuationToken>tok&amp;en=</NextContinuationToken>
<Contents><Key>p%2Fa+b%2Bc%0A%C3%BC</Key><LastModified>2026-11-23T14:42:28.987Z</LastModified>
<ETag>&quot;abc-2&quot;</ETag><Size>5368709120</Size><StorageClass>GLACIER</StorageClass></Contents>
<CommonPrefixes><Prefix>p%2Fd%2F</Prefix></CommonPrefixes></ListBucketResult>"""


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', ' xmlns="urn:other"'])
def test_a_listing_is_read_in_any_namespace(namespace: str) -> None:
    page = xml.parse_list(LISTING.format(namespace=namespace).encode())
    (listed,) = page.objects
    assert listed.key == "p/a b+c\nü"
    assert (listed.etag, listed.size, listed.storage_class) == ("abc-2", 5368709120, "GLACIER")
    assert listed.last_modified_ns == 1_795_444_948_000_000_000
    assert list(page.prefixes) == ["p/d/"]
    assert page.next_token == "tok&en="


def test_a_listing_with_characters_xml_cannot_hold_is_read() -> None:
    document = LISTING.format(namespace="").replace("<Prefix>p%2F</Prefix>", "<Prefix>p&#x1;\x02</Prefix>", 1)
    assert xml.parse_list(document.encode()).objects[0].key == "p/a b+c\nü"


@pytest.mark.parametrize(
    "spoiled",
    ["<Size>-1</Size>", "<Size>9223372036854775808</Size>", "<Size>9e9</Size>", "<Size></Size>", "<Size>1</Siz>"],
)
def test_a_listing_with_a_broken_number_is_not_accepted(spoiled: str) -> None:
    document = LISTING.format(namespace="").replace("<Size>5368709120</Size>", spoiled)
    with pytest.raises(NotXml):
        xml.parse_list(document.encode())


def test_a_key_that_is_not_utf8_is_no_other_key() -> None:
    """Not U+FFFD, which may be a key of its own: that one would be shown, changed and deleted in its place."""
    document = LISTING.format(namespace="").replace("p%2Fa+b%2Bc%0A%C3%BC", "p%2F%FF")
    (listed,) = xml.parse_list(document.encode()).objects
    assert listed.key == "p/\udcff"
    rows = read_page("p/", xml.parse_list(document.encode()))
    assert (rows.files, rows.unrepresentable) == ([], ["p/\udcff"])
    shown = Oddities()
    shown.show(rows.unrepresentable)
    assert shown.examples == ("p/\\udcff",)


@given(st.binary(max_size=300))
def test_garbage_is_not_xml(garbage: bytes) -> None:
    parsers = (xml.parse_list, xml.parse_upload_id, xml.parse_parts, xml.parse_uploads, xml.parse_versions)
    for parse in (*parsers, xml.parse_deletions):
        with pytest.raises(NotXml):
            parse(garbage)


def test_the_completion_names_every_part() -> None:
    document = xml.completion_document([Part(1, ETag("a")), Part(2, ETag("b&<"))])
    assert document.endswith(
        b"<Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag></Part>"
        b"<Part><PartNumber>2</PartNumber><ETag>&quot;b&amp;&lt;&quot;</ETag></Part></CompleteMultipartUpload>"
    )


def test_a_request_for_many_deletions_names_each_key_with_its_etag() -> None:
    document = xml.deletion_document([Deletion(ObjectKey("a<&"), ETag("e")), Deletion(ObjectKey("b"))])
    assert document.endswith(
        b"<Object><Key>a&lt;&amp;</Key><ETag>e</ETag></Object><Object><Key>b</Key></Object><Quiet>true</Quiet></Delete>"
    )


def test_the_answer_to_many_deletions_is_no_error_though_it_names_some() -> None:
    body = (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<DeleteResult><Deleted><Key>x</Key></Deleted>'
        b"<Error><Key>a</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    )
    assert not xml.is_error(body)
    assert xml.parse_deletions(body) == [("a", "AccessDenied", "no")]
    for error in (b"<Error><Code>x</Code></Error>", b'  <?xml version="1.0"?>\n \n<Error xmlns="x"/>'):
        assert xml.is_error(error)


@pytest.mark.parametrize("key", ["a\rb", "a\nb", "\x00", "a\x7f", "\ufffe", "\x85"])
def test_keys_that_xml_would_change_are_known(key: str) -> None:
    assert not xml.writable(key)
    assert xml.writable("dir/ä € 😀 <&> \"'")


def test_tags_become_the_form_their_header_takes() -> None:
    document = b"<Tagging><TagSet><Tag><Key>a b</Key><Value>c/+&amp;</Value></Tag></TagSet></Tagging>"
    assert xml.parse_tagging(document) == "a%20b=c%2F%2B%26"
    assert xml.parse_tagging(b"<Tagging><TagSet/></Tagging>") == ""


@pytest.mark.parametrize("text", ["Mon, 23 Nov 2026 14:42:28 GMT", "Mon, 23 Nov 2026 14:42:28 +0000"])
def test_http_dates_are_read(text: str) -> None:
    assert parse_http_date(text) == 1_795_444_948_000_000_000


@given(st.text(max_size=40))
def test_a_broken_http_date_is_a_bad_response(text: str) -> None:
    with pytest.raises(BadResponse):
        parse_http_date("x" + text)


def test_system_headers_go_out_and_come_back() -> None:
    headers = ObjectHeaders("text/plain", "no-cache", "inline", "br", "de", "Thu, 01 Dec 2044 16:00:00 GMT")
    sent = object_headers({"Colour": "blue"}, headers)
    assert sent["x-amz-meta-colour"] == "blue"
    reply = Reply(200, {**sent, "etag": '"e"', "last-modified": "Mon, 23 Nov 2026 14:42:28 GMT"})
    info = object_info(ObjectKey("k"), reply, 7)
    assert (info.headers, dict(info.metadata), info.size) == (headers, {"colour": "blue"}, 7)
    assert object_headers({}, ObjectHeaders()) == {}


@given(st.text(max_size=10), st.text(max_size=10))
def test_no_metadata_can_end_its_header_line(key: str, value: str) -> None:
    try:
        sent = object_headers({key: value}, ObjectHeaders())
    except StoreRefused:
        return
    for name, text in sent.items():
        assert not {"\r", "\n", "\0"} & {*name, *text}
        assert ":" not in name
        assert " " not in name


def test_conditions_are_quoted_or_bare() -> None:
    assert condition_headers(Condition(absent=True), quoted=True) == {"if-none-match": "*"}
    assert condition_headers(Condition(match=ETag("e")), quoted=True) == {"if-match": '"e"'}
    assert condition_headers(Condition(match=ETag("e")), quoted=False) == {"if-match": "e"}
    assert condition_headers(Condition(), quoted=True) == {}


def test_the_null_version_is_none() -> None:
    reply = Reply(200, {"etag": "e", "last-modified": "Mon, 23 Nov 2026 14:42:28 GMT", "x-amz-version-id": "null"})
    assert object_info(ObjectKey("k"), reply, 0).version_id == ""


ACL = (
    "<AccessControlPolicy xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Owner><ID>me</ID></Owner>"
    "<AccessControlList>{}</AccessControlList></AccessControlPolicy>"
)
GRANT = "<Grant><Grantee xmlns:xsi='x' xsi:type='T'><{0}>{1}</{0}></Grantee><Permission>{2}</Permission></Grant>"
OWNERS = GRANT.format("ID", "me", "FULL_CONTROL")


def test_an_acl_becomes_the_headers_that_make_it() -> None:
    grants = [OWNERS, GRANT.format("URI", "http://all", "READ"), GRANT.format("ID", "you", "READ"),
              GRANT.format("EmailAddress", "a@b", "WRITE_ACP")]  # fmt: skip
    assert parse_grants(ACL.format("".join(grants)).encode()) == {
        "x-amz-grant-full-control": 'id="me"',
        "x-amz-grant-read": 'uri="http://all", id="you"',
        "x-amz-grant-write-acp": 'emailAddress="a@b"',
    }


def test_the_default_acl_is_nothing_to_say() -> None:
    assert parse_grants(ACL.format(OWNERS).encode()) == {}


@pytest.mark.parametrize(
    "grant",
    [
        GRANT.format("Unknown", "x", "READ"),
        GRANT.format("ID", 'a"', "READ"),
        GRANT.format("ID", "a\r\nx: y", "READ"),
        "<Grant><Permission>READ</Permission></Grant>",
    ],
)
def test_a_grant_that_no_header_can_hold_is_an_error_not_lost(grant: str) -> None:
    with pytest.raises(NotXml):
        parse_grants(ACL.format(grant).encode())

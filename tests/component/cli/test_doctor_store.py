"""The doctor's look at the bucket: a good one, and every way it can be out of reach."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from gatewayfs.cli.doctor_store import judged
from gatewayfs.cli.findings import Verdict
from gatewayfs.cli.main import main
from gatewayfs.s3.store import Capabilities
from tests.support.s3server import Bucket

Report = dict[str, dict[str, str]]
Doctor = Callable[..., tuple[int, Report]]


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run it with --json; returns the exit status and the findings by subject."""

    def run(*arguments: str) -> tuple[int, Report]:
        code = main(["doctor", "--json", "--cache-dir", str(tmp_path), *arguments])
        return code, {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)}

    return run


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """Something on a port that gives everybody the same answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def http(status: str, body: bytes, kind: str = "application/xml") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def test_a_good_bucket_is_all_ok_and_left_as_it_was(doctor: Doctor, bucket: Bucket) -> None:
    bucket.put("photos/x", b"1")
    code, found = doctor(f"{bucket.name}/photos", "--endpoint-url", bucket.endpoint_url)
    assert code in (0, 6)  # this machine's disk may be worth a warning
    for subject in ("credentials", "clock", "bucket", "write"):
        assert found[subject]["verdict"] == "ok", found[subject]
    assert "env" in found["credentials"]["text"]
    assert "conditional writes" in found
    assert bucket.keys() == ["photos/x"]


@pytest.mark.parametrize("how", [["--read-only"], ["--set", "share.read_only=true"]])
def test_read_only_writes_nothing(doctor: Doctor, bucket: Bucket, how: list[str]) -> None:
    _, found = doctor(bucket.name, "--endpoint-url", bucket.endpoint_url, *how)
    assert found["bucket"]["verdict"] == "ok"
    assert "write" not in found
    assert "conditional writes" not in found


def test_no_value_of_a_credential_is_ever_shown(
    doctor: Doctor, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "visiblekeyname")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "visiblesecret")
    main(["doctor", bucket.name, "--endpoint-url", bucket.endpoint_url])
    said = capsys.readouterr()
    assert "credentials from" in said.out
    _, found = doctor(bucket.name, "--endpoint-url", "http://127.0.0.1:1")
    for text in (said.out, said.err, json.dumps(found)):
        assert "visiblekeyname" not in text
        assert "visiblesecret" not in text


def test_a_missing_bucket_is_named_with_the_cure(doctor: Doctor, bucket: Bucket) -> None:
    code, found = doctor("no-such-bucket-here", "--endpoint-url", bucket.endpoint_url)
    assert code == 1
    assert found["bucket"]["verdict"] == "fail"
    assert "check its name" in found["bucket"]["cure"]


def test_a_closed_port_is_named_with_the_cure(doctor: Doctor) -> None:
    code, found = doctor("b-1", "--endpoint-url", "http://127.0.0.1:1")
    assert code == 1
    assert "Connection refused" in found["bucket"]["text"]
    assert "firewall" in found["bucket"]["cure"]
    assert "clock" not in found


def test_something_that_is_not_s3_is_told_so(doctor: Doctor) -> None:
    with server(http("200 OK", b"<html>Please log in to the hotel network</html>", "text/html")) as url:
        code, found = doctor("b-1", "--endpoint-url", url)
    assert code == 1
    assert "something else than an S3 store" in found["bucket"]["cure"]


@pytest.mark.parametrize(
    "s3_code, cure", [("InvalidAccessKeyId", "check the keys"), ("AccessDenied", "allow s3:ListBucket on b-1")]
)
def test_refused_credentials_and_refused_access_are_told_apart(s3_code: str, cure: str, doctor: Doctor) -> None:
    body = f"<Error><Code>{s3_code}</Code><Message>no</Message></Error>".encode()
    with server(http("403 Forbidden", body)) as url:
        code, found = doctor("b-1", "--endpoint-url", url)
    assert code == 1
    assert cure in found["bucket"]["cure"]


def test_a_wrong_clock_is_named(doctor: Doctor) -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    answer = http("403 Forbidden", body).replace(b"\r\n", b"\r\nDate: Thu, 01 Jan 2015 00:00:00 GMT\r\n", 1)
    with server(answer) as url:
        _, found = doctor("b-1", "--endpoint-url", url)
    assert found["clock"]["verdict"] == "fail"
    assert "ahead of the store's" in found["clock"]["text"]


def test_no_credentials_are_told_before_anything_is_asked(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    code, found = doctor("b-1", "--endpoint-url", "http://127.0.0.1:1")
    assert code == 1
    assert found["credentials"]["verdict"] == "fail"
    assert "bucket" not in found


def test_what_a_store_does_not_honour_is_a_warning_with_what_follows() -> None:
    good = {finding.subject: finding for finding in judged(Capabilities(probed=True))}
    assert {finding.verdict for finding in good.values()} == {Verdict.OK}
    poor = {
        finding.subject: finding
        for finding in judged(Capabilities(put_if_match=False, part_copy=False, versioning=True, probed=True))
    }
    assert poor["conditional writes"].verdict is Verdict.WARNING
    assert poor["part copy"].verdict is Verdict.WARNING
    assert all(finding.cure for finding in poor.values() if finding.verdict is not Verdict.OK)


def test_people_get_lines_with_cures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["doctor", "b-1", "--endpoint-url", "http://127.0.0.1:1", "--cache-dir", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("fail     bucket") for line in lines)
    assert lines[-1].strip().startswith("cure: check s3.endpoint_url")

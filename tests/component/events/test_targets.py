"""The targets themselves: a real file, real programs, a real web server."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from gatewayfs.events.command import CommandTarget
from gatewayfs.events.file import FileTarget
from gatewayfs.events.settings import DeliveryFailed
from gatewayfs.events.webhook import WebhookTarget, read_headers
from gatewayfs.runtime.offload import Offload
from tests.support.webservice import WebService

EVENT = b'{"id": 1}'

# ----------------------------------------------------------------- file


def file_target(path):
    return FileTarget(path, Offload(1))


def deliver(target, *lines):
    trio.run(target.deliver, lines or (EVENT,))


def test_events_are_appended_and_a_rotated_file_is_begun_anew(tmp_path):
    path = tmp_path / "events.jsonl"
    target = file_target(path)
    deliver(target, b"1", b"2")
    path.rename(tmp_path / "events.jsonl.1")
    deliver(target, b"3")
    os.truncate(path, 0)
    deliver(target, b"4")
    assert (tmp_path / "events.jsonl.1").read_bytes() == b"1\n2\n"
    assert path.read_bytes() == b"4\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_a_line_that_a_crash_cut_short_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "events"
    path.write_bytes(b'{"half')
    deliver(file_target(path))
    assert path.read_bytes() == b'{"half\n' + EVENT + b"\n"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "directory"])
def test_what_is_no_file_is_refused_and_holds_nobody_up(tmp_path, make):
    path = tmp_path / "events"
    make(path)
    with pytest.raises(DeliveryFailed, match=str(path)):
        deliver(file_target(path))


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(DeliveryFailed, match="No such file or directory"):
        deliver(file_target(tmp_path / "missing" / "events"))


def test_a_full_disk_leaves_no_half_line(tmp_path):
    path = tmp_path / "events"
    path.write_bytes(b"x" * 4085 + b"\n")
    before = path.read_bytes()
    # In a process of its own: the limit on file sizes stands in for the disk's end.
    program = (
        "import resource, signal\n"
        "from pathlib import Path\n"
        "from gatewayfs.events.file import append\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"append(Path({str(path)!r}), b'y' * 100 + b'\\n')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "DeliveryFailed" in ended.stderr
    assert path.read_bytes() == before


# ----------------------------------------------------------------- command


def script(tmp_path, text):
    path = tmp_path / "on-event"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def command(tmp_path, text, timeout_s=30.0):
    return CommandTarget((script(tmp_path, text), "an argument; not a shell"), "photos", timeout_s, Offload(1))


def test_a_program_gets_the_event_and_a_clean_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    deliver(command(tmp_path, f'cat > {tmp_path}/got; env > {tmp_path}/env; printf %s "$1" > {tmp_path}/argument'))
    assert (tmp_path / "got").read_bytes() == EVENT + b"\n"
    assert (tmp_path / "argument").read_text() == "an argument; not a shell"
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "LANG", "GATEWAYFS_SHARE"}


def test_a_program_that_fails_says_why(tmp_path):
    with pytest.raises(DeliveryFailed, match=r"ended with status 3: no queue here$"):
        deliver(command(tmp_path, "echo no queue >&2; echo here >&2; exit 3"))


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DeliveryFailed, match="cannot be started: No such file or directory"):
        deliver(CommandTarget((str(tmp_path / "missing"),), "photos", 5.0, Offload(1)))


def test_a_program_that_reads_nothing_and_talks_much_is_fine(tmp_path):
    big = b"x" * (1 << 20)
    deliver(command(tmp_path, "head -c 1000000 /dev/zero >&2"), big)


def test_a_program_that_hangs_is_killed_with_what_it_started(tmp_path):
    text = f"sleep 1000 & echo $! > {tmp_path}/child; sleep 1000"
    begun = time.monotonic()
    with pytest.raises(DeliveryFailed, match=r"did not end within 0\.5 s"):
        deliver(command(tmp_path, text, timeout_s=0.5))
    assert time.monotonic() - begun < 20
    gone(int((tmp_path / "child").read_text()))


def test_a_child_left_behind_does_not_delay_its_parents_success(tmp_path):
    text = f"sleep 1000 >&2 & echo $! > {tmp_path}/child; exit 0"
    try:
        begun = time.monotonic()
        deliver(command(tmp_path, text, timeout_s=500.0))
        assert time.monotonic() - begun < 100
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


def test_a_program_is_killed_when_the_daemon_stops(tmp_path):
    target = command(tmp_path, f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; sleep 1000")

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(target.deliver, [EVENT])
            with trio.fail_after(60):
                while not (tmp_path / "pid").exists():
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    trio.run(main)
    gone(int((tmp_path / "pid").read_text()))


def gone(pid):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} is still running")


# ----------------------------------------------------------------- webhook


@pytest.fixture
def service():
    with WebService() as made:
        yield made


def webhook(url, *, timeout_s=30.0, headers_file=None):
    return WebhookTarget(url, timeout_s, headers_file, None, Offload(8))


def test_an_event_is_posted_with_the_headers_of_the_file(service, tmp_path):
    secrets = tmp_path / "headers"
    secrets.write_text("# of the event service\nAuthorization: Bearer s3cr3t\nX-Site:  office \n")
    secrets.chmod(0o600)
    deliver(webhook(f"{service.url}/hook", headers_file=secrets))
    ((path, headers, body),) = service.got
    assert (path, json.loads(body)) == ("/hook", {"id": 1})
    assert (headers["Content-Type"], headers["Authorization"]) == ("application/json", "Bearer s3cr3t")
    assert headers["X-Site"] == "office"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_means_taken(service, status):
    service.status = status
    deliver(webhook(service.url))


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_any_other_answer_does_not(service, status):
    service.status = status
    with pytest.raises(DeliveryFailed, match=f"answered {status}$"):
        deliver(webhook(f"{service.url}/t0ken"))


def test_a_redirect_is_not_followed(service):
    service.status, service.headers = 307, {"Location": f"{service.url}/elsewhere"}
    with pytest.raises(DeliveryFailed, match="redirects are not followed"):
        deliver(webhook(service.url))
    assert len(service.got) == 1


def test_no_message_holds_the_path_or_the_secrets(service, tmp_path):
    secrets = tmp_path / "headers"
    secrets.write_text("Authorization: Bearer s3cr3t\n")
    secrets.chmod(0o600)
    messages = []
    service.status = 500
    for url in (f"{service.url}/t0ken", "http://127.0.0.1:1/t0ken", "http://no-such-host.invalid/t0ken"):
        with pytest.raises(DeliveryFailed) as told:
            deliver(webhook(url, headers_file=secrets))
        messages.append(str(told.value))
    assert not any("t0ken" in message or "s3cr3t" in message for message in messages), messages
    assert "Connection refused" in messages[1]


def test_a_service_that_does_not_answer_is_left_in_time(service):
    service.delay_s = 1000
    with pytest.raises(DeliveryFailed, match="did not answer"):
        deliver(webhook(service.url, timeout_s=0.3))


@pytest.mark.parametrize("text", ["no colon", "Bad Name: x", "Name: a\x01b"])
def test_a_headers_file_that_makes_no_sense_is_named_without_its_contents(tmp_path, text):
    path = tmp_path / "headers"
    path.write_text(f"X-A: 1\n{text}\n")
    path.chmod(0o600)
    with pytest.raises(DeliveryFailed, match=f"{path} line 2: write Name: value$"):
        read_headers(path)


def test_a_headers_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "headers"
    path.write_text("X-A: 1\n")
    path.chmod(0o640)
    with pytest.raises(DeliveryFailed, match="chmod 600"):
        read_headers(path)


def test_a_certificate_nobody_vouches_for_is_refused(service):
    with pytest.raises(DeliveryFailed, match="https://127"):
        deliver(webhook(service.url.replace("http:", "https:"), timeout_s=5.0))
    assert service.got == []

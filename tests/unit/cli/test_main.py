"""Mistakes in the arguments, and how every kind of failure is worded."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gatewayfs.cli import gateway
from gatewayfs.cli import main as entry
from gatewayfs.cli.bucketpath import split_bucket_path
from gatewayfs.cli.main import VERBS, main
from gatewayfs.cli.parsing import UsageError
from gatewayfs.errors import (
    BucketNotFound,
    CorruptRecord,
    GatewayError,
    StoreBusy,
    StoreUnreachable,
    UserError,
)


@pytest.fixture(autouse=True)
def _no_gateways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAYFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.mark.parametrize(
    "argv, line",
    [
        ("mont b /mnt", "mont is not a verb; did you mean mount?"),
        ("xyzzy", "xyzzy is not a verb; gatewayfs --help lists the verbs"),
        ("umount", "gatewayfs umount: name the gateway by DIR, or by --pid; see gatewayfs umount --help"),
        ("umount --no-drian /x", "--no-drian is not an option of gatewayfs umount; did you mean --no-drain?"),
        ("status --xyzzy", "--xyzzy is not an option of gatewayfs status; see gatewayfs status --help"),
        ("status /a /b", "'/b' is one argument too many for gatewayfs status; see gatewayfs status --help"),
        ("drain --wait --timeout soon /x", None),
        ("umount --no-drain --timeout 5s /x", None),
        ("mount", "the bucket and the mount directory are missing; write BUCKET[/PREFIX] DIR, or --config FILE [DIR]"),
        ("mount b-1", "the mount directory is missing; write BUCKET[/PREFIX] DIR, or --config FILE [DIR]"),
        ("mount b-1 /a /b", "'/b' is one argument too many; write BUCKET[/PREFIX] DIR, or --config FILE [DIR]"),
        ("mount --config f b-1 /a", "with --config only the mount directory may follow; write BUCKET[/PREFIX] DIR, or "
         "--config FILE [DIR]"),
        ("mount /x /mnt", "'/x' names no bucket; write BUCKET or BUCKET/PREFIX"),
        ("mount b-1 /mnt --set upload.settel=3", "--set: upload.settel is not an option; did you mean upload.settle?"),
        ("mount b-1 /mnt --cache-dir /mnt/c", "cache.directory /mnt/c lies in the mount /mnt; put it elsewhere, on a "
         "local disk"),
        ("doctor --set a=b", "--set and --endpoint-url are about a bucket; name it: gatewayfs doctor BUCKET"),
        ("version more", "'more' is one argument too many for gatewayfs version; see gatewayfs version --help"),
    ],
)  # fmt: skip
def test_a_usage_mistake_is_one_line_and_status_2(
    argv: str, line: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert line is None or said.err == f"gatewayfs: {line}\n"


def test_several_configuration_mistakes_are_all_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mount", "b-1", "/mnt", "--set", "upload.workers=0", "--set", "log.level=loud"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("argv", ["status /mnt/x", "drain photos", "umount /mnt/x", "refresh-cache /mnt/x"])
def test_no_gateway_there_is_status_3(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv.split()) == 3
    said = capsys.readouterr().err
    assert said.startswith("gatewayfs: no gateway is mounted at ")
    assert "; start one: gatewayfs mount BUCKET" in said


def test_status_without_a_gateway_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert "no gateway runs here" in capsys.readouterr().out
    assert main(["status", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    "error, code, text",
    [
        (UserError("the cache is full", "free some"), 1, "the cache is full; free some"),
        (UserError("left", exit_code=5), 5, "left"),
        (StoreUnreachable("no route"), 4, "the store cannot be reached: no route"),
        (StoreBusy("SlowDown"), 4, "the store cannot be reached: SlowDown"),
        (BucketNotFound("no bucket b"), 1, "no bucket b"),
        (CorruptRecord("record 7"), 1, "record 7"),
        (GatewayError(), 1, "GatewayError"),
        (ExceptionGroup("", [ExceptionGroup("", [UserError("no bucket", exit_code=4)])]), 4, "no bucket"),
        (ExceptionGroup("", [UserError("a"), KeyError("b")]), 1, "unexpected ExceptionGroup; the traceback is in"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_failure_has_its_words_and_status(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(run=run))
    assert main(["version"]) == code
    said = capsys.readouterr().err
    assert said.startswith(f"gatewayfs: {text}")
    assert said.count("\n") == 1


def test_an_unexpected_error_is_one_line_and_its_traceback_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(argv: list[str]) -> int:
        return 1 // 0

    monkeypatch.setattr(entry.importlib, "import_module", lambda name: SimpleNamespace(run=run))
    assert main(["version"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("gatewayfs: unexpected ZeroDivisionError; the traceback is in ")
    assert said.count("\n") == 1
    kept = Path(said.rpartition(" ")[2].strip())
    assert "ZeroDivisionError" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_output_that_nobody_reads_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gatewayfs.cli.main", "version"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: gatewayfs {verb}")
    assert "examples:" in said


def test_the_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in VERBS)


def test_a_quick_verb_does_not_load_the_slow_libraries() -> None:
    script = "import sys; from gatewayfs.cli.main import main; main(['status']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for slow in ("boto3", "botocore", "pyfuse3", "lmdb", "pydantic", "trio"):
        assert f"'{slow}'" not in done.stdout, slow


@pytest.mark.parametrize(
    "text, expected",
    [("b", ("b", "")), ("b/", ("b", "")), ("b/x/y", ("b", "x/y")), ("s3://b/x/", ("b", "x/"))],
)
def test_a_bucket_path_is_split(text: str, expected: tuple[str, str]) -> None:
    assert split_bucket_path(text) == expected


@pytest.mark.parametrize(
    "folder, expected",
    [
        ("/", ""),
        (".", ""),
        ("2024", "2024"),
        ("/2024/", "2024"),
        ("2024/05/../06", "2024/06"),
        ("/mnt/photos", ""),
        ("/mnt/photos/2024", "2024"),
        ("/mnt/photos-old", "mnt/photos-old"),
    ],
)
def test_folders_become_paths_in_the_mount(folder: str, expected: str) -> None:
    assert gateway.relative_path(folder, "/mnt/photos") == expected


def test_a_folder_outside_is_refused() -> None:
    with pytest.raises(UsageError, match="leads out of the share"):
        gateway.relative_path("../etc", "/mnt/photos")

"""``gatewayfs init``: every answer is checked, secrets are kept, nothing is overwritten."""

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayfs.cli import init, initfiles
from gatewayfs.cli.init import run
from gatewayfs.cli.main import main
from gatewayfs.config import load
from gatewayfs.errors import UserError


@pytest.fixture(autouse=True)
def _no_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(init, "SYSTEMD_RUNS", tmp_path / "no-systemd")
    monkeypatch.setattr(init, "UNITS", tmp_path / "units")


@pytest.fixture
def immutable(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What would have been made immutable: pytest could not remove it."""
    made: list[Path] = []

    def note(path: Path) -> str:
        made.append(path)
        return ""

    monkeypatch.setattr(initfiles, "make_immutable", note)
    return made


def flags(tmp_path: Path) -> list[str]:
    return [
        *("photos", "--config-dir", str(tmp_path / "etc"), "--mount", str(tmp_path / "mnt")),
        *("--cache-dir", str(tmp_path / "cache"), "--no-check"),
    ]


def test_flags_alone_make_a_share(tmp_path: Path, immutable: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--bucket", "company-photos/site a", "--cache-size", "1GiB", "--set", "upload.settle=5s"]
    more += [
        "--set",
        "upload.workers=8",
        "--set",
        "metadata.file_mode=0640",
        "--set",
        "upload.exclude=*.tmp,~*",
        "--yes",
    ]
    more += ["--set", "upload.guess_mime_type=no"]
    assert run([*flags(tmp_path), *more]) == 0
    file = tmp_path / "etc" / "photos.toml"
    config = load(file, env={}, euid=0)
    assert config.share.name == "photos"
    assert (config.share.bucket, config.share.prefix) == ("company-photos", "site a/")
    assert config.cache.size_bytes == 1 << 30
    assert config.upload.settle_s == 5
    assert (config.upload.workers, config.metadata.file_mode) == (8, 0o640)
    assert config.upload.exclude == ("*.tmp", "~*")
    assert not config.upload.guess_mime_type
    assert config.mount.directory == tmp_path / "mnt"
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert immutable == [tmp_path / "mnt"]
    assert f"next: gatewayfs mount --config {file}" in capsys.readouterr().out


def test_a_terminal_is_asked_for_the_rest_and_again_after_a_mistake(
    tmp_path: Path, immutable: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["no bucket", "company-photos", "ftp://x", "http://127.0.0.1:9000", "many", ""])
    secrets = iter(["AKIDEXAMPLE", "a secret of the share"])
    asked: list[str] = []

    def ask(source: Iterator[str], question: str) -> str:
        asked.append(question)
        return next(source)

    arguments = flags(tmp_path)
    assert run(arguments, ask=lambda q: ask(answers, q), ask_secret=lambda q: ask(secrets, q)) == 0
    assert [question for question in asked if question.startswith("Bucket")] == ["Bucket, or BUCKET/PREFIX: "] * 2
    keys = tmp_path / "etc" / "photos.keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert "aws_secret_access_key = a secret of the share" in keys.read_text()
    config = load(tmp_path / "etc" / "photos.toml", env={}, euid=0)
    assert config.s3.credentials_file == keys
    assert config.s3.endpoint_url == "http://127.0.0.1:9000"
    assert config.cache.size_bytes is None
    said = capsys.readouterr()
    assert "a secret" not in said.out + said.err + (tmp_path / "etc" / "photos.toml").read_text()


def test_nothing_is_overwritten_without_force(tmp_path: Path, immutable: list[Path]) -> None:
    arguments = [*flags(tmp_path), "--yes"]
    assert run([*arguments, "--bucket", "one-bucket"]) == 0
    with pytest.raises(UserError, match="exists already"):
        run([*arguments, "--bucket", "two-buckets"])
    assert load(tmp_path / "etc" / "photos.toml", env={}, euid=0).share.bucket == "one-bucket"
    assert run([*arguments, "--bucket", "two-buckets", "--force"]) == 0
    assert load(tmp_path / "etc" / "photos.toml", env={}, euid=0).share.bucket == "two-buckets"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "--bucket is missing; with --yes nothing is asked"),
        (["--bucket", "B"], "share.bucket"),
        (["--bucket", "good-bucket", "--cache-size", "1KiB"], "cache.size"),
        (["--bucket", "good-bucket", "--credentials-file", "/nowhere/keys"], "cannot be read"),
    ],
)
def test_a_mistake_writes_nothing(
    more: list[str], message: str, tmp_path: Path, immutable: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *flags(tmp_path), "--yes", *more]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_mount_directory_with_something_in_it_is_refused(tmp_path: Path, immutable: list[Path]) -> None:
    (tmp_path / "mnt" / "precious").mkdir(parents=True)
    with pytest.raises(UserError, match="not empty"):
        run([*flags(tmp_path), "--yes", "--bucket", "company-photos"])
    assert not (tmp_path / "etc" / "photos.toml").exists()
    assert immutable == []


def test_systemd_is_told_where_the_share_is(
    tmp_path: Path, immutable: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(init, "SYSTEMD_RUNS", tmp_path)
    assert run([*flags(tmp_path), "--yes", "--bucket", "company-photos"]) == 0
    unit = (tmp_path / "units" / "gatewayfs@photos.service.d" / "paths.conf").read_text()
    assert f'RequiresMountsFor="{tmp_path}/mnt" "{tmp_path}/cache"' in unit
    assert "systemctl enable --now gatewayfs@photos" in capsys.readouterr().out


def test_an_immutable_directory_takes_nothing_or_the_reason_is_said(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    trouble = initfiles.make_immutable(bare)
    try:
        if trouble == "":
            with pytest.raises(PermissionError):
                (bare / "a").touch()
    finally:
        subprocess.run(["chattr", "-i", str(bare)], check=False, capture_output=True)


def test_an_end_of_input_writes_nothing(tmp_path: Path, immutable: list[Path]) -> None:
    def ask(_question: str) -> str:
        raise EOFError

    with pytest.raises(UserError, match="nothing was written"):
        run(flags(tmp_path), ask=ask, ask_secret=ask)
    assert list(tmp_path.iterdir()) == []

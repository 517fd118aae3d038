"""One line for every mistake; the right value for everything else."""

from pathlib import Path

import pytest

from gatewayfs.config import ConfigError, ShareConfig, load, share_name_for

BUCKET = {"share.bucket": "photos"}


def loaded(*sets: str, env: dict[str, str] | None = None, euid: int = 0, **flags: str) -> ShareConfig:
    return load(sets=sets, flags=BUCKET | flags, env=env or {}, euid=euid)


def mistakes_of(*sets: str, text: str | None = None, tmp_path: Path | None = None) -> list[str]:
    file = None
    if text is not None:
        assert tmp_path is not None
        file = tmp_path / "share.toml"
        file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, sets, flags={} if text is not None else BUCKET, env={}, euid=0)
    assert caught.value.exit_code == 2
    assert all("\n" not in line for line in caught.value.mistakes)
    return [line.replace(f"{tmp_path}/", "") for line in caught.value.mistakes]


def test_a_bucket_alone_is_enough() -> None:
    config = loaded()
    assert config.share.name == "photos"
    assert config.cache.directory == Path("/var/cache/gatewayfs/photos")
    assert config.mount.allow_other is True
    assert config.upload.part_size_bytes == 8 << 20


def test_another_user_than_root_gets_a_cache_of_his_own_and_no_allow_other() -> None:
    config = loaded(euid=1000, env={"HOME": "/home/ann"})
    assert config.cache.directory == Path("/home/ann/.cache/gatewayfs/photos")
    assert config.mount.allow_other is False


def test_the_file_says_and_set_overrides(tmp_path: Path) -> None:
    file = tmp_path / "share.toml"
    file.write_text(
        '[share]\nbucket = "b-1"\nprefix = "/x/y"\n'
        '[upload]\nsettle = "3s"\nworkers = 4\n[mount]\noptions = ["noatime"]\n'
    )
    config = load(file, ["upload.settle=5s"], env={}, euid=0)
    assert (config.share.bucket, config.share.prefix, config.share.name) == ("b-1", "x/y/", "b-1_x_y")
    assert (config.upload.settle_s, config.upload.workers) == (5.0, 4)
    assert config.mount.fuse_options == {"noatime", "allow_other"}


def test_nonempty_is_our_check_and_not_passed_to_libfuse() -> None:
    config = loaded("mount.options=nonempty,nosuid", "mount.allow_other=no")
    assert config.mount.allow_nonempty
    assert config.mount.fuse_options == {"nosuid"}


@pytest.mark.parametrize(
    "env, expected",
    [
        ({"AWS_ENDPOINT_URL": "http://a:1"}, "http://a:1"),
        ({"AWS_ENDPOINT_URL": "http://a:1", "AWS_ENDPOINT_URL_S3": "http://b:2/"}, "http://b:2"),
        ({"AWS_ENDPOINT_URL": "http://a:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None),
        ({}, None),
    ],
)
def test_boto3s_environment_names_the_endpoint(env: dict[str, str], expected: str | None) -> None:
    assert loaded(env=env).s3.endpoint_url == expected


def test_what_is_configured_wins_over_the_environment() -> None:
    config = loaded(
        "s3.region=eu-1", env={"AWS_REGION": "us-1", "AWS_ENDPOINT_URL": "http://a"}, **{"s3.endpoint_url": "http://c"}
    )
    assert (config.s3.region, config.s3.endpoint_url) == ("eu-1", "http://c")


def test_every_kind_of_mistake_in_a_file_is_one_line_that_names_place_option_value_and_cure(tmp_path: Path) -> None:
    text = """
        [share]
        bucket = "s3://photos/x"
        prefix = "a//b"
        [s3]
        endpoint_url = "localhost:9000"
        conections = 4
        addressing = "subdomain"
        [cache]
        directory = "relative/path"
        small_file = "2MiB"
        [upload]
        settle = "soon"
        workers = 0
        guess_mime_type = "perhaps"
        [metadata]
        file_mode = 666
        uid = -1
        [mount]
        options = ["max_read=4096"]
        [uplod]
        settle = "2s"
        [log]
        level = "loud"
        """
    assert mistakes_of(text=text, tmp_path=tmp_path) == [
        "share.toml: s3.conections is not an option; did you mean s3.connections?",
        "share.toml: [uplod] is not a section; did you mean [upload]?",
        'share.toml: share.bucket = "s3://photos/x": write a bucket name alone (3 or more letters, digits, dots, '
        'dashes), without "s3://" and "/"',
        'share.toml: share.prefix = "a//b": write a path of plain names: no "//", ".", ".." or NUL',
        'share.toml: s3.endpoint_url = "localhost:9000": write a URL like "https://s3.example.com" or "http://127.0.0.1:9000"',
        'share.toml: s3.addressing = "subdomain": not one of the choices; write "auto" or "path" or "virtual"',
        'share.toml: cache.directory = "relative/path": write a full path, starting with "/"',
        'share.toml: cache.small_file = "2MiB": too large; at most 1MiB',
        'share.toml: upload.settle = "soon": write a duration like "500ms", "2s", "5m", "1h", "1d" or a number of '
        "seconds",
        "share.toml: upload.workers = 0: too small; at least 1",
        'share.toml: upload.guess_mime_type = "perhaps": write true or false',
        'share.toml: metadata.file_mode = 666: write the octal digits in quotes, like "0666"',
        "share.toml: metadata.uid = -1: too small; at least 0",
        "share.toml: mount.options = ['max_read=4096']: max_read=4096 cannot be given here: it makes the mount fail; "
        "leave it out",
        'share.toml: log.level = "loud": not one of the choices; write "debug" or "info" or "warning" or "error"',
    ]


@pytest.mark.parametrize(
    "sets, expected",
    [
        ("upload.settel=2s", "--set: upload.settel is not an option; did you mean upload.settle?"),
        ("settle_max=2s", "--set: settle_max is not an option; did you mean upload.settle_max?"),
        (
            "cache.capacity=1G",
            "--set: cache.capacity is not an option; [cache] has "
            "cache.directory, cache.size, cache.min_free, cache.dirty_max, cache.small_file, cache.read_ahead, "
            "cache.verify, cache.scrub_rate, cache.scrub_interval",
        ),
        (
            "xyzzy=1",
            "--set: xyzzy is not an option; the sections are share, "
            "s3, objects, cache, upload, throttle, metadata, refresh, identity, mount, export, events, log, audit, "
            "health",
        ),
        ("upload.settle", "--set upload.settle: a value is missing; write --set option=value"),
        ("upload.part_size=1MiB", '--set upload.part_size = "1MiB": too small; at least 5MiB'),
        ("share.name=a/b", None),
    ],
)
def test_every_kind_of_mistake_in_set_is_one_line(sets: str, expected: str | None) -> None:
    (line,) = mistakes_of(sets)
    assert expected is None or line == expected


@pytest.mark.parametrize(
    "sets, names",
    [
        (("upload.settle=2m",), ("upload.settle", "upload.settle_max")),
        (("upload.part_size=128MiB",), ("upload.part_size", "upload.memory")),
        (("upload.workers=112",), ("s3.connections", "upload.workers")),
        (("objects.kms_key=alias/files",), ("objects.kms_key", "objects.encryption")),
        (("objects.kms_key=k", "objects.encryption=sse-s3"), ("objects.kms_key", "objects.encryption")),
        (("objects.bucket_key=yes", "objects.encryption=dsse-kms"), ("objects.bucket_key", "objects.encryption")),
        (("cache.directory=/mnt/x/cache", "mount.directory=/mnt/x"), ("cache.directory", "/mnt/x")),
        (("cache.directory=/mnt/x", "mount.directory=/mnt/x"), ("cache.directory", "/mnt/x")),
        (("cache.directory=/mnt", "mount.directory=/mnt/x"), ("cache.directory", "/mnt/x")),
    ],
)
def test_options_that_contradict_each_other_are_named_together(sets: tuple[str, ...], names: tuple[str, str]) -> None:
    (line,) = mistakes_of(*sets)
    assert all(name in line for name in names)


def test_neighbours_of_the_mount_are_no_contradiction() -> None:
    assert loaded("cache.directory=/mnt/x-cache", "mount.directory=/mnt/x").mount.directory == Path("/mnt/x")


def test_no_bucket_is_told_once(tmp_path: Path) -> None:
    (line,) = mistakes_of(text="", tmp_path=tmp_path)
    assert line.startswith("share.bucket is missing; name the bucket")


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"[share\n", "share.toml: is not TOML: "),
        (b"\xff\xfe", "share.toml: is not UTF-8 text (byte 0)"),
        (b"share = 3\n", "share.toml: share is a section; write [share]"),
        (b"bucket = 'x'\n", "share.toml: bucket is not an option; did you mean share.bucket?"),
    ],
)
def test_a_broken_file_is_named(content: bytes, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "share.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file, env={}, euid=0)
    assert caught.value.mistakes[0].replace(f"{tmp_path}/", "").startswith(expected)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file or directory"):
        load(tmp_path / "nowhere.toml", env={}, euid=0)


def test_a_password_in_the_endpoint_is_refused_and_not_repeated() -> None:
    (line,) = mistakes_of("s3.endpoint_url=https://ann:hunter2@s3.example.com")
    assert "hunter2" not in line
    assert "may not hold a user name or password" in line


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_credentials_file_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("[default]\naws_access_key_id = x\n")
    file.chmod(mode)
    (line,) = mistakes_of(f"s3.credentials_file={file}")
    assert f"mode {mode:04o} lets others read the keys; run chmod 600 {file}" in line


def test_a_credentials_file_of_mode_0600_is_taken_and_a_missing_one_named(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    (line,) = mistakes_of(f"s3.credentials_file={file}")
    assert line.endswith("keys: cannot be read: No such file or directory")
    file.touch(mode=0o600)
    assert loaded(f"s3.credentials_file={file}").s3.credentials_file == file


def test_share_names_differ_wherever_bucket_or_prefix_differ() -> None:
    pairs = [
        ("b", ""),
        ("b", "a"),
        ("b", "a/b"),
        ("b", "a_b"),
        ("b", "a b"),
        ("b", "A/b"),
        ("b", "ä"),
        ("b", "ö"),
        ("b-a", ""),
        ("b" * 200, "x"),
        ("b" * 200, "y"),
        ("b", "x" * 300),
        ("b", "x" * 301),
    ]
    names = [share_name_for(bucket, prefix) for bucket, prefix in pairs]
    assert len(set(names)) == len(pairs)
    for name in names:
        assert loaded(f"share.name={name}").share.name == name


def test_a_configuration_can_be_logged() -> None:
    assert "photos" in repr(loaded())

"""Every mistake in every option is one line that names the option and says what to write.

The tables here have a row for each option and for each pair that can contradict; a new one without a row fails.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayfs.config import ConfigError, load, options
from gatewayfs.config.model import Option
from tests.unit.config.test_load import mistakes_of

OPTIONS = {option.name: option for option in options()}
NUMBER, FLAG, LIST = "write a whole number", "write true or false", "write a list"
SIZE, DURATION, RATE = "write a size like", "write a duration like", "write a rate like"
PATH, CHOICE, TEXT, MODE = 'starting with "/"', "not one of the choices", "write some text", "octal digits in quotes"
URL, SMALL, LARGE = "write a URL like", "too small; at least", "too large; at most"

WRONG: dict[str, dict[str, str]] = {
    "share.bucket": {'"s3://photos"': "a bucket name alone", "3": "a bucket name alone", '""': "a bucket name alone"},
    "share.prefix": {'"a//b"': "plain names", '"../x"': "plain names", "3": TEXT},
    "share.name": {'"a/b"': "letters, digits", '"-x"': "letters, digits", '"\\u0000"': "letters, digits"},
    "share.read_only": {'"perhaps"': FLAG, "1": FLAG},
    "s3.endpoint_url": {'"localhost:9000"': URL, '"ftp://x"': URL, '"https://x:port"': URL},
    "s3.region": {'""': TEXT, "1": TEXT},
    "s3.profile": {'""': TEXT, "1": TEXT},
    "s3.credentials_file": {'"keys"': PATH, "1": PATH},
    "s3.addressing": {'"subdomain"': CHOICE},
    "s3.ca_bundle": {'"ca.pem"': PATH},
    "s3.proxy": {'"proxy:3128"': URL, '"http://ann:pw@proxy"': "may not hold a user name or password"},
    "s3.dual_stack": {'"maybe"': FLAG},
    "s3.requester_pays": {'"maybe"': FLAG},
    "s3.bucket_owner": {'"1234"': "twelve digits", "123456789012": "twelve digits"},
    "s3.restore": {'"now"': CHOICE},
    "s3.restore_days": {"0": SMALL, "4000": LARGE, '"a week"': NUMBER},
    "s3.connections": {"1": SMALL, "2000": LARGE},
    "objects.storage_class": {'"standard ia"': "as S3 does"},
    "objects.keep_storage_class": {"2": FLAG},
    "objects.acl": {'"everybody"': CHOICE},
    "objects.keep_acl": {"2": FLAG},
    "objects.tags": {'["project"]': LIST, '["a=1", "a=2"]': "each name once", '["=x"]': "1 to 128 characters"},
    "objects.check_tags": {"2": FLAG},
    "objects.encryption": {'"aes"': CHOICE},
    "objects.kms_key": {'""': TEXT},
    "objects.bucket_key": {"2": FLAG},
    "objects.also_write": {'"goofys"': CHOICE},
    "objects.checksum": {'"md5"': CHOICE},
    "cache.directory": {'"cache"': PATH},
    "cache.size": {'"1MiB"': SMALL, '"2PiB"': LARGE, '"much"': SIZE, "1.5": SIZE, "-1": SIZE},
    "cache.min_free": {'"2PiB"': LARGE, '"5%"': SIZE},
    "cache.dirty_max": {'"1MiB"': SMALL, '"2PiB"': LARGE},
    "cache.small_file": {'"2MiB"': LARGE},
    "cache.read_ahead": {'"2GiB"': LARGE},
    "cache.verify": {'"always"': CHOICE},
    "cache.scrub_rate": {'"fast"': SIZE, '"17GiB"': LARGE},
    "cache.scrub_interval": {'"1m"': SMALL, '"2y"': DURATION, '"400d"': LARGE},
    "upload.settle": {'"soon"': DURATION, '"2d"': LARGE, "-1": DURATION},
    "upload.settle_max": {'"late"': DURATION},
    "upload.part_size": {'"1MiB"': SMALL, '"6GiB"': LARGE},
    "upload.workers": {"0": SMALL, "1000": LARGE, "1.5": NUMBER},
    "upload.memory": {'"1MiB"': SMALL, '"1TiB"': LARGE},
    "upload.conflicts": {'"newest-wins"': CHOICE},
    "upload.fsync": {'"s3"': CHOICE},
    "upload.fsync_timeout": {'"0s"': SMALL, '"2h"': LARGE},
    "upload.exclude": {'["/"]': LIST, '[""]': LIST, "[1]": LIST, '"\\u0000"': LIST},
    "upload.guess_mime_type": {'"perhaps"': FLAG},
    "throttle.upload": {'"fast"': RATE, '"1kbit"': "too low", '"99Pbit"': "too high"},
    "throttle.download": {'"fast"': RATE, "0": "too low"},
    "throttle.time_zone": {'"Mars/Olympus"': "write a zone"},
    "metadata.file_mode": {"666": MODE, '"rw-r--r--"': MODE, '"0999"': MODE},
    "metadata.directory_mode": {"777": MODE},
    "metadata.uid": {"-1": SMALL, "4294967295": LARGE, '"nobody"': NUMBER},
    "metadata.gid": {"-1": SMALL, "4294967295": LARGE, '"nogroup"': NUMBER},
    "metadata.kernel_timeout": {'"1y"': DURATION, '"31d"': LARGE},
    "metadata.deadline": {'"0s"': SMALL, '"2h"': LARGE},
    "refresh.events": {
        '"photos"': "write the queue's URL",
        '"https://sqs.eu-west-1.amazonaws.com/"': "write the queue's URL",
        '"arn:aws:sns:eu-west-1:123456789012:photos"': "write the queue's URL",
        '"https://ann:pw@sqs.example.com/1/photos"': "may hold no user name or password",
    },
    "refresh.events_region": {'""': TEXT},
    "refresh.events_endpoint_url": {'"sqs.example.com"': URL},
    "refresh.events_profile": {"1": TEXT},
    "identity.squash": {'"yes"': CHOICE},
    "identity.anonymous_uid": {"0": SMALL, "4294967295": LARGE},
    "identity.anonymous_gid": {"0": SMALL, "4294967295": LARGE},
    "identity.force_uid": {"-1": SMALL, '"ann"': NUMBER},
    "identity.force_gid": {"-1": SMALL, '"staff"': NUMBER},
    "identity.force_umask": {'"01777"': LARGE, "27": MODE},
    "identity.uid_map": {'["1000"]': "is not a pair of ids", '["1=2", "1=3"]': "stands twice", "7": LIST},
    "identity.gid_map": {'["a=b"]': "is not a pair of ids", '["1=2", "3=2"]': "stands twice"},
    "mount.directory": {'"mnt"': PATH},
    "mount.allow_other": {'"all"': FLAG},
    "mount.options": {'["max_read=1"]': "it makes the mount fail", '["fsname=x"]': "always", "[1]": LIST},
    "export.enabled": {'"nfs"': FLAG},
    "export.path": {'"/"': "write a path like", '"photos"': "write a path like", '"/a b"': "write a path like"},
    "export.protocols": {'["2"]': "name one or more", "[]": "name one or more", '["3", "3"]': "each once"},
    "export.clients": {
        '["10.0.0.1/8"]': "did you mean 10.0.0.0/8",
        '["nas.example.com"]': "write addresses or networks",
        '["10.0.0.0/8=write"]': "is not an access",
        '["10.0.0.0/8", "10.0.0.0/8=ro"]': "stands there twice",
        "[1]": LIST,
    },
    "export.read_only": {"2": FLAG},
    "export.security": {'["krb"]': "name one or more", "[]": "name one or more"},
    "export.id": {"0": SMALL, "70000": LARGE},
    "refresh.ttl": {'"0.5s"': "between", '"31d"': "between", '"soon"': DURATION},
    "refresh.stale_while_revalidate": {'"maybe"': FLAG},
    "refresh.wait": {'"0s"': SMALL, '"1h"': LARGE},
    "refresh.schedule": {
        '["noon"]': "write days",
        '["Sun 24:00"]': "write days",
        '["Sunday 3:00"]': "write days",
        "3": LIST,
    },
    "refresh.time_zone": {'"Mars/Olympus"': "write a zone"},
    "events.file": {'"log"': PATH},
    "events.command": {'["notify"]': "full path", "[1]": LIST},
    "events.command_timeout": {'"0s"': SMALL, '"2h"': LARGE},
    "events.webhook": {'"ftp://e"': URL, '"https://e/?code=1"': "headers file"},
    "events.webhook_timeout": {'"0s"': SMALL, '"1h"': LARGE},
    "events.webhook_headers_file": {'"headers"': PATH},
    "events.webhook_ca_bundle": {'"ca"': PATH},
    "events.settle": {'"2d"': LARGE},
    "events.outbox": {'"1KiB"': SMALL, '"1TiB"': LARGE},
    "events.source": {'""': TEXT},
    "log.level": {'"loud"': CHOICE},
    "log.format": {'"xml"': CHOICE},
    "log.file": {'"log"': PATH},
    "audit.file": {'"log"': PATH},
    "health.file": {'"log"': PATH},
}

NEVER_RIGHT = ("{ a = 1 }", "1979-05-27T07:32:00Z", "[[]]", "nan")
"""Of a type that no option has."""

CONTRADICTIONS: tuple[tuple[str, ...], ...] = (
    ("upload.settle=2m",),
    ("upload.part_size=128MiB",),
    ("cache.size=1GiB", "cache.dirty_max=2GiB"),
    ("upload.workers=112",),
    ("share.read_only=yes", "s3.restore=bulk"),
    ("objects.kms_key=k",),
    ("objects.bucket_key=yes",),
    ("events.webhook_headers_file=/missing",),
    ("refresh.events_region=eu-west-1",),
    ("mount.directory=/mnt/x", "cache.directory=/mnt/x/cache"),
    ("mount.directory=/mnt/x", "cache.directory=/mnt"),
    ("identity.force_uid=0",),
    ("identity.uid_map=0=5",),
    ("identity.gid_map=1=7", "metadata.gid=7"),
    ("export.clients=10.0.0.0/8=none",),
    ("mount.directory=/mnt/x", "audit.file=/mnt/x/log"),
    ("s3.credentials_file=/missing",),
    ("s3.credentials_file=/",),
    ("events.webhook=https://e", "events.webhook_headers_file={readable}"),
)

CONFIG = Path(__file__).parents[3] / "gatewayfs" / "config"


def test_every_option_has_its_mistakes_here() -> None:
    assert set(WRONG) == set(OPTIONS)


def told(option: Option, value: str, directory: Path) -> str:
    """What is said of ``option = value`` in a file: one line, with the place and the option."""
    section, _, name = option.name.partition(".")
    tables = {"share": 'bucket = "photos"\n'} | {section: ""}
    if option.name != "share.bucket":
        tables["share"] = 'bucket = "photos"\n'
    tables[section] += f"{name} = {value}\n"
    text = "".join(f"[{table}]\n{lines}" for table, lines in tables.items())
    lines = mistakes_of(text=text, tmp_path=directory)
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"share.toml: {option.name}"), lines[0]
    assert lines[0].isprintable()
    return lines[0]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_one_line_with_the_cure(name: str, value: str, tmp_path: Path) -> None:
    assert WRONG[name][value] in told(OPTIONS[name], value, tmp_path)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_value_of_a_type_no_option_has_is_one_line_in_our_words(name: str, tmp_path: Path) -> None:
    for value in NEVER_RIGHT:
        line = told(OPTIONS[name], value, tmp_path)
        assert re.search(r"write|use up to|choices|name one or more", line), line


@pytest.mark.parametrize("name", OPTIONS)
def test_a_misspelt_option_is_told_with_the_right_one(name: str) -> None:
    (line,) = mistakes_of(f"{name}x=1")
    assert line == f"--set: {name}x is not an option; did you mean {name}?"


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_is_written_twice_is_named(name: str, tmp_path: Path) -> None:
    section, _, option = name.partition(".")
    (line,) = mistakes_of(text=f"[{section}]\n{option} = 1\n{option} = 1\n", tmp_path=tmp_path)
    assert line.startswith("share.toml: is not TOML: Cannot overwrite a value (at line 3")


@pytest.mark.parametrize("sets", CONTRADICTIONS)
def test_a_contradiction_is_one_line_that_names_an_option_and_the_cure(sets: tuple[str, ...], tmp_path: Path) -> None:
    lines = contradiction(sets, tmp_path)
    assert len([line for line in lines if "cannot be read" not in line]) <= 1
    assert any(sets[-1].partition("=")[0] in line for line in lines)


def test_every_contradiction_there_is_has_a_row_here(tmp_path: Path) -> None:
    said = "\n".join(line for sets in CONTRADICTIONS for line in contradiction(sets, tmp_path))
    for place, text in yielded():
        assert text in said, f"{place}: no row of CONTRADICTIONS brings it out: {text}"


def contradiction(sets: tuple[str, ...], directory: Path) -> list[str]:
    readable = directory / "readable"
    readable.touch(mode=0o644)
    return mistakes_of(*(item.format(readable=readable) for item in sets))


def yielded() -> Iterator[tuple[str, str]]:
    """The longest plain piece of each message that the checks of relations and secret files yield."""
    for name in ("relations", "exportoptions", "identityoptions", "logoptions", "secretfiles"):
        for node in ast.walk(ast.parse((CONFIG / f"{name}.py").read_text())):
            if isinstance(node, ast.Yield) and node.value is not None:
                pieces = [
                    constant.value
                    for constant in ast.walk(node.value)
                    if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
                ]
                yield f"{name}.py:{node.lineno}", max(pieces, key=len)


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Also one in a directory that is not there, or that is none."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere" / "keys", tmp_path / "file" / "keys"):
        with pytest.raises(ConfigError, match=f"s3.credentials_file {path}: cannot be read: "):
            load(sets=[f"s3.credentials_file={path}", "share.bucket=photos"], env={}, euid=0)

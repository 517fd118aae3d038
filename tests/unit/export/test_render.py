"""The EXPORT block for nfs-ganesha says what the share's configuration says, and keeps what clients' handles hold."""

import re
from pathlib import Path

import pytest

from gatewayfs.config import ConfigError, load
from gatewayfs.errors import UserError
from gatewayfs.export.clients import mount_lines
from gatewayfs.export.render import export_of, export_text, main_text
from gatewayfs.export.trial import apart, complaints


def text(*sets: str, bucket: str = "photos") -> str:
    common = ("mount.directory=/mnt/photos", "export.enabled=true")
    return export_text(export_of(load(None, [*common, *sets], flags={"share.bucket": bucket}, env={})))


def value(rendered: str, name: str) -> str:
    found = re.findall(rf"^    {name} = (.*);$", rendered, re.MULTILINE)
    assert len(found) == 1, rendered
    return str(found[0])


def test_defaults_are_those_of_a_site() -> None:
    rendered = text()
    assert value(rendered, "Path") == '"/mnt/photos"'
    assert value(rendered, "Pseudo") == '"/photos"'
    assert value(rendered, "Protocols") == "3, 4"
    assert value(rendered, "SecType") == "sys"
    assert value(rendered, "Squash") == "Root_Squash"
    assert value(rendered, "Access_Type") == "RW"
    assert "CLIENT {" not in rendered


def test_numbers_in_handles_depend_on_bucket_and_prefix_alone() -> None:
    names = ("Export_Id", "Filesystem_id")
    first = [value(text(), name) for name in names]
    moved = [value(text("share.name=other", "cache.directory=/elsewhere", "export.path=/x"), name) for name in names]
    assert moved == first
    assert [value(text("share.prefix=a"), name) for name in names] != first
    assert value(text("export.id=7"), "Export_Id") == "7"


def test_squash_and_the_anonymous_user_are_those_of_the_mount() -> None:
    rendered = text("identity.squash=all", "identity.anonymous_uid=99", "identity.anonymous_gid=98")
    assert value(rendered, "Squash") == "All_Squash"
    assert value(rendered, "Anonymous_uid") == "99"
    assert value(rendered, "Anonymous_gid") == "98"
    assert value(text("identity.squash=none"), "Squash") == "No_Root_Squash"


def test_a_client_list_lets_in_nobody_else() -> None:
    rendered = text("export.clients=10.0.0.0/8,192.0.2.7=ro,2001:db8::/32=none")
    assert value(rendered, "Access_Type") == "None"
    assert re.findall(r"Clients = (\S+); Access_Type = (\w+);", rendered) == [
        ("10.0.0.0/8", "RW"),
        ("192.0.2.7", "RO"),
        ("2001:db8::/32", "None"),
    ]


@pytest.mark.parametrize("option", ["export.read_only", "share.read_only"])
def test_read_only_takes_writing_from_everybody(option: str) -> None:
    assert value(text(f"{option}=true"), "Access_Type") == "RO"
    assert "RW" not in text(f"{option}=true", "export.clients=10.0.0.0/8,192.0.2.7=ro")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("export.clients=10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("export.clients=nas.example.com", "is not a network; write addresses or networks like"),
        ("export.clients=10.0.0.0/8=rwx", 'rwx is not an access; write "10.0.0.0/8=rw"'),
        ("export.clients=10.0.0.0/8,10.0.0.0/8=ro", "10.0.0.0/8 stands there twice"),
        ("export.clients=10.0.0.0/8=none", "lets nobody in"),
        ("export.protocols=5", "name one or more of 3, 4"),
        ("export.security=krb5x", "name one or more of sys, krb5, krb5i, krb5p"),
        ("export.path=/", 'not "/" alone'),
        ("export.path=/a/../b", "write a path like"),
        ("export.id=65536", "too large; at most 65535"),
        ("export.enabled=perhaps", "write true or false"),
    ],
)
def test_a_mistake_is_one_line_with_the_cure(setting: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        text(setting)
    assert len(caught.value.mistakes) == 1
    assert told in caught.value.mistakes[0]


def test_a_share_not_meant_for_nfs_and_a_name_ganesha_cannot_be_told_are_refused() -> None:
    with pytest.raises(UserError, match="not meant for NFS"):
        text("export.enabled=false")
    with pytest.raises(UserError, match="cannot be told"):
        text('mount.directory=/mnt/a"b')


def test_mount_commands_speak_of_what_is_exported() -> None:
    config = load(
        None,
        ["mount.directory=/mnt/p", "export.enabled=true", "export.protocols=4", "export.security=krb5,krb5p"],
        flags={"share.bucket": "photos"},
        env={},
    )
    lines = "\n".join(mount_lines(export_of(config), "2001:db8::7"))
    assert "mount -t nfs -o nfsvers=4.1,hard,sec=krb5p [2001:db8::7]:/photos /mnt/photos" in lines
    assert "nfsvers=3" not in lines
    assert 'not possible: put "3"' in lines
    assert "NFSv3: locks" not in lines


def test_windows_is_told_an_ipv6_address_the_way_it_can_take_it() -> None:
    config = load(None, ["mount.directory=/mnt/p", "export.enabled=true"], flags={"share.bucket": "photos"}, env={})
    lines = "\n".join(mount_lines(export_of(config), "2001:db8::7"))
    assert r"\\2001-db8--7.ipv6-literal.net\photos Z:" in lines


def test_what_ganesha_complains_of_is_found_in_its_log() -> None:
    head = "24/11/2026 14:33:54 : epoch 6b : vm : nfs-ganesha-1[main] "
    log = "\n".join(
        [
            head + "load_rados_config :CONFIG :WARN :Missing RADOS URLs backend library",
            head + "gsh_dbus_pkginit :DBUS :CRIT :dbus_bus_get failed",
            head + "config_errs_to_log :CONFIG :CRIT :Config File (/x:29): Unknown parameter (Foo)",
            head + "nfs_start :NFS STARTUP :EVENT :             NFS SERVER INITIALIZED",
        ]
    )
    assert list(complaints(log)) == ["Config File (/x:29): Unknown parameter (Foo)"]


def test_a_trial_serves_nobody() -> None:
    tried = apart(main_text(kerberos=False), [text()], Path("/tmp/x"))
    assert re.findall(r"^ *Protocols =\s*(.*);$", tried, re.MULTILINE) == ["4", "4"]
    assert 'RecoveryRoot = "/tmp/x";' in tried

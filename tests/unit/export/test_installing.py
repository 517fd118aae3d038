"""Files below /etc/ganesha: one per share, included from ganesha.conf, which stays the host's."""

from pathlib import Path

import pytest

from gatewayfs.config import ShareConfig, load
from gatewayfs.errors import UserError
from gatewayfs.export.installing import install, installed, is_active, remove


def share(bucket: str, *sets: str) -> ShareConfig:
    common = (f"mount.directory=/mnt/{bucket}", "export.enabled=true")
    return load(None, [*common, *sets], flags={"share.bucket": bucket}, env={})


def includes(etc: Path) -> list[str]:
    lines = (etc / "ganesha.conf").read_text().splitlines()
    return [line for line in lines if line.startswith("%include")]


def test_several_shares_have_a_file_and_an_include_each(tmp_path: Path) -> None:
    install(share("photos"), tmp_path)
    install(share("films"), tmp_path)
    assert includes(tmp_path) == [
        f'%include "{tmp_path}/gatewayfs/films.conf"',
        f'%include "{tmp_path}/gatewayfs/photos.conf"',
    ]
    found = installed(tmp_path)
    assert [(entry.share, entry.path) for entry in found] == [("films", "/films"), ("photos", "/photos")]
    assert len({entry.number for entry in found}) == 2
    assert install(share("films"), tmp_path) == []
    remove("films", tmp_path)
    assert includes(tmp_path) == [f'%include "{tmp_path}/gatewayfs/photos.conf"']
    assert [entry.share for entry in installed(tmp_path)] == ["photos"]
    remove("photos", tmp_path)
    assert includes(tmp_path) == []
    with pytest.raises(UserError, match="not installed"):
        remove("photos", tmp_path)


def test_what_the_host_wrote_into_its_configuration_stays(tmp_path: Path) -> None:
    main = tmp_path / "ganesha.conf"
    main.write_text("NFS_CORE_PARAM { Protocols = 4; }\nEXPORT { Export_Id = 1; }\n")
    install(share("photos"), tmp_path)
    assert main.read_text().startswith("NFS_CORE_PARAM { Protocols = 4; }\nEXPORT { Export_Id = 1; }\n")
    assert len(includes(tmp_path)) == 1
    remove("photos", tmp_path)
    assert main.read_text().rstrip() == "NFS_CORE_PARAM { Protocols = 4; }\nEXPORT { Export_Id = 1; }"


def test_the_sample_of_the_package_is_replaced_and_kept(tmp_path: Path) -> None:
    main = tmp_path / "ganesha.conf"
    main.write_text("# a sample\n\n#EXPORT { }\n")
    install(share("photos"), tmp_path)
    assert is_active(main.read_text())
    assert (tmp_path / "ganesha.conf.orig").read_text() == "# a sample\n\n#EXPORT { }\n"


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["export.id=7"], "number 7"),
        (["export.id=2055"], "device number 2055"),
        (["export.path=/photos"], "path /photos"),
        (["mount.directory=/mnt/photos"], "directory /mnt/photos"),
    ],
)
def test_two_shares_that_clash_are_told_apart(tmp_path: Path, sets: list[str], told: str) -> None:
    install(share("photos", "export.id=7"), tmp_path)
    with pytest.raises(UserError, match=f"share photos is exported with the {told} already"):
        install(share("films", *sets), tmp_path)
    assert len(includes(tmp_path)) == 1


def test_kerberos_needs_a_server_that_has_it_on(tmp_path: Path) -> None:
    install(share("photos"), tmp_path)
    with pytest.raises(UserError, match="switches it off"):
        install(share("films", "export.security=krb5p"), tmp_path)


def test_a_strange_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "gatewayfs").mkdir()
    (tmp_path / "gatewayfs" / "mine.conf").write_text("EXPORT { }\n")
    with pytest.raises(UserError, match="is not a file of gatewayfs"):
        install(share("photos"), tmp_path)

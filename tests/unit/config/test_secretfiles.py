"""Keys that systemd hands a service."""

from pathlib import Path

import pytest

from gatewayfs.config import ConfigError, ShareConfig, load

WRITTEN = "s3.credentials_file=${CREDENTIALS_DIRECTORY}/keys"


def loaded(env: dict[str, str]) -> ShareConfig:
    return load(None, ["share.bucket=photos", WRITTEN], env=env, euid=0)


def keys(directory: Path, mode: int) -> Path:
    file = directory / "keys"
    file.write_text("[default]\n")
    file.chmod(mode)
    return file


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600])
def test_a_credential_of_the_service_is_taken_with_the_modes_systemd_gives_it(mode: int, tmp_path: Path) -> None:
    file = keys(tmp_path, mode)
    assert loaded({"CREDENTIALS_DIRECTORY": str(tmp_path)}).s3.credentials_file == file


@pytest.mark.parametrize("mode", [0o444, 0o460])
def test_a_credential_that_others_can_read_or_change_is_refused(mode: int, tmp_path: Path) -> None:
    keys(tmp_path, mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o} lets others read the keys"):
        loaded({"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_group_readable_keys_elsewhere_stay_refused(tmp_path: Path) -> None:
    file = keys(tmp_path, 0o440)
    with pytest.raises(ConfigError, match="mode 0440 lets others read the keys"):
        load(None, ["share.bucket=photos", f"s3.credentials_file={file}"], env={"CREDENTIALS_DIRECTORY": "/x"}, euid=0)


def test_outside_of_a_service_the_cure_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        loaded({})
    (line,) = caught.value.mistakes
    assert "CREDENTIALS_DIRECTORY is set in a service only" in line
    assert "CREDENTIALS_DIRECTORY=/etc/gatewayfs" in line

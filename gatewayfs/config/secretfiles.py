"""Files of secrets: where they are, and that nobody else reads them.

A service gets them from systemd as credentials (LoadCredential), in a directory that CREDENTIALS_DIRECTORY names.
``${CREDENTIALS_DIRECTORY}/keys`` in a file of a share means a file in there. systemd hands them out with mode 0400, or
with 0440 where an access list lets a service's own user in; that list is systemd's business.
"""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from gatewayfs.config.model import ShareConfig

VARIABLE = "CREDENTIALS_DIRECTORY"
VARIABLE_WRITTEN = "${CREDENTIALS_DIRECTORY}/"

OPTIONS = ("s3.credentials_file", "events.webhook_headers_file")


def expanded(value: str, env: Mapping[str, str]) -> str:
    """The path that ``${CREDENTIALS_DIRECTORY}/NAME`` stands for. Raises ValueError with the cure."""
    directory = env.get(VARIABLE)
    if not directory:
        raise ValueError(
            f"{VARIABLE} is set in a service only; outside of one set it to the directory that has the file, "
            f"for example {VARIABLE}=/etc/gatewayfs"
        )
    return f"{directory.rstrip('/')}/{value.removeprefix(VARIABLE_WRITTEN)}"


def mistakes(config: ShareConfig, env: Mapping[str, str]) -> Iterator[str]:
    """One line for each file of secrets that is missing or that others may read."""
    for name, path in zip(OPTIONS, (config.s3.credentials_file, config.events.webhook_headers_file), strict=True):
        if path is None:
            continue
        try:
            status = path.stat()
        except OSError as error:
            yield f"{name} {path}: cannot be read: {error.strerror}"
            continue
        credential = env.get(VARIABLE) is not None and path.parent == Path(env[VARIABLE])
        others = 0o037 if credential else 0o077
        if not stat.S_ISREG(status.st_mode):
            yield f"{name} {path}: is not a file"
        elif status.st_mode & others:
            yield (
                f"{name} {path}: mode {stat.S_IMODE(status.st_mode):04o} lets others read the keys; "
                f"run chmod 600 {path}"
            )

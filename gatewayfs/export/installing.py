"""The files below /etc/ganesha: one per share, and the lines of ganesha.conf that include them.

ganesha.conf is written when there is none, or when there is only the sample of the package (comments and nothing
else; it is kept as ``ganesha.conf.orig``). After that it is the host's: only the lines between our two marks change.
Each file is replaced atomically, so a ganesha that starts meanwhile reads the old one or the new one.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gatewayfs.config import ShareConfig
from gatewayfs.errors import UserError
from gatewayfs.export.render import Export, export_of, export_text, main_text
from gatewayfs.runtime.device import device_for
from gatewayfs.runtime.durable import fsync_directory, write_file_atomically

BEGIN = "# gatewayfs: begin"
END = "# gatewayfs: end"
FOLDER = "gatewayfs"
MAIN = "ganesha.conf"

_SHARE = re.compile(r"^# gatewayfs share (\S+):", re.MULTILINE)
_MARKED = re.compile(rf"\n?{BEGIN}\n.*?{END}\n", re.DOTALL)
_KERBEROS_OFF = re.compile(r"^\s*Active_krb5\s*=\s*(false|no|off)\s*;", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Installed:
    """One share's file, as far as other shares must know it."""

    share: str
    directory: Path
    path: str
    number: int


def installed(etc: Path) -> list[Installed]:
    """The exports below ``etc``, by file name. Raises UserError for a file that is not as we write it."""
    folder = etc / FOLDER
    return [_read(file) for file in sorted(folder.glob("*.conf"))] if folder.is_dir() else []


def _read(file: Path) -> Installed:
    text = file.read_text(errors="replace")

    def value(name: str) -> str:
        found = re.search(rf'^\s*{name} = "?([^";]*)"?;', text, re.MULTILINE)
        if found is None:
            raise UserError(f"{file} has no {name}", "gatewayfs export --install of its share writes it again")
        return found[1]

    share = _SHARE.search(text)
    if share is None:
        raise UserError(f"{file} is not a file of gatewayfs", f"keep other exports outside of {file.parent}")
    return Installed(share[1], Path(value("Path")), value("Pseudo"), int(value("Export_Id")))


def export_beside(config: ShareConfig, others: Iterable[Installed]) -> Export:
    """The share's export, which must not clash with another one.

    Raises:
        UserError: another share has its number, its path or its directory; names the share and the cure.
    """
    export = export_of(config)
    others = [other for other in others if other.share != config.share.name]
    for other in others:
        for what, theirs, ours, option in (
            ("number", other.number, export.number, "export.id"),
            ("device number", device_for(other.number), device_for(export.number), "export.id"),
            ("path", other.path, export.path, "export.path"),
            ("directory", other.directory, export.directory, "mount.directory"),
        ):
            if theirs == ours:
                raise UserError(f"share {other.share} is exported with the {what} {ours} already", f"set {option}", 2)
    return export


def install(config: ShareConfig, etc: Path) -> list[Path]:
    """Write the share's file and its line in ganesha.conf; returns the files that changed.

    Raises:
        UserError: a clash with another share, or with a ganesha.conf that forbids what the share needs.
    """
    export = export_beside(config, installed(etc))
    main = etc / MAIN
    before = main.read_text(errors="replace") if main.exists() else ""
    kerberos = config.export.kerberos
    if not is_active(before):
        after = main_text(kerberos=kerberos)
    elif kerberos and _KERBEROS_OFF.search(before):
        raise UserError(f"export.security names Kerberos and {main} switches it off", "set Active_krb5 = true there", 2)
    else:
        after = before
    changes = list(_changes(etc, main, before, after, export))
    for file, text in changes:
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if file == main and before and not is_active(before):
            write_file_atomically(main.with_name(MAIN + ".orig"), before.encode(), 0o644)
        write_file_atomically(file, text.encode(), 0o644)
    return [file for file, _ in changes]


def _changes(etc: Path, main: Path, before: str, after: str, export: Export) -> Iterator[tuple[Path, str]]:
    file = etc / FOLDER / f"{export.share}.conf"
    text = export_text(export)
    if not file.exists() or file.read_text(errors="replace") != text:
        yield file, text
    files = {*(etc / FOLDER).glob("*.conf"), file}
    wanted = with_includes(after, sorted(files))
    if wanted != before:
        yield main, wanted


def remove(share: str, etc: Path) -> list[Path]:
    """Take a share out; returns the files that changed. Raises UserError when it is not there."""
    file = etc / FOLDER / f"{share}.conf"
    if not file.exists():
        raise UserError(f"share {share} is not installed in {etc}", "")
    main = etc / MAIN
    text = main.read_text(errors="replace")
    # First the line, then the file: ganesha never finds a line whose file is gone.
    write_file_atomically(main, with_includes(text, sorted({*file.parent.glob("*.conf")} - {file})).encode(), 0o644)
    file.unlink()
    fsync_directory(file.parent)
    return [main, file]


def with_includes(text: str, files: Iterable[Path]) -> str:
    """``text`` with exactly one block of marked lines, which include ``files``."""
    lines = [f'%include "{file}"' for file in files]
    bare = _MARKED.sub("", text)
    return "\n".join([bare.rstrip("\n"), "", BEGIN, *lines, END, ""]).lstrip("\n") if lines else bare


def main_of(etc: Path, *, kerberos: bool) -> str:
    """ganesha.conf as it is or would be, without the lines that include shares."""
    main = etc / MAIN
    text = main.read_text(errors="replace") if main.exists() else ""
    return _MARKED.sub("", text) if is_active(text) else main_text(kerberos=kerberos)


def is_active(text: str) -> bool:
    """Whether a configuration says anything at all: the sample of the package is comments."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines())

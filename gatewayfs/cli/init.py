"""``gatewayfs init``: from a few answers to a share that systemd can start.

Answers come from flags, and from a terminal for what no flag says. Each is checked by the very model that will read the
file, as soon as it is given. Nothing is written before all of them are right, and nothing that is there is overwritten
unless ``--force`` says so. Keys are asked without echo and go into a file of mode 0600; no flag takes one.
"""

import argparse
import getpass
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gatewayfs.cli import doctor, exitcodes
from gatewayfs.cli.bucketpath import split_bucket_path
from gatewayfs.cli.initfiles import make_directories, paths_unit, write_new
from gatewayfs.cli.parsing import Parser, UsageError
from gatewayfs.config import ConfigError, ShareConfig, load
from gatewayfs.errors import UserError

CONFIG_DIR = Path("/etc/gatewayfs")
SYSTEMD_RUNS = Path("/run/systemd/system")
UNITS = Path("/etc/systemd/system")

STORY = """\
Write /etc/gatewayfs/NAME.toml, the description of a share, and make its directories: asks on a terminal for what the
flags do not say. The bare mount directory is made immutable where the file system can, so that nothing is written into
it while the share is not mounted. Then `gatewayfs doctor` looks whether all is well.

Keys are asked without echo and written to /etc/gatewayfs/NAME.keys (mode 0600); or name a file that has them, or let
them come from where boto3 looks (environment, instance role)."""

Ask = Callable[[str], str]


def run(argv: Sequence[str], *, ask: Ask = input, ask_secret: Ask = getpass.getpass) -> int:
    """``ask`` and ``ask_secret`` show a question and return what was typed."""
    arguments = _parser().parse(argv)
    interactive = not arguments.yes
    if interactive and ask is input and not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on", "say everything by flags, with --yes")
    file, keys = arguments.config_dir / f"{arguments.name}.toml", arguments.config_dir / f"{arguments.name}.keys"
    if file.exists() and not arguments.force:
        raise UserError(f"{file} exists already", "edit it, or write it anew with --force")
    answers = _Answers(arguments, ask if interactive else None)
    try:
        secret = _gather(answers, arguments, ask_secret if interactive else None)
    except EOFError:
        raise UserError("the questions were not answered to their end; nothing was written") from None
    if secret and keys.exists() and not arguments.force:
        raise UserError(f"{keys} exists already", "use it with --credentials-file, or write it anew with --force")
    config = answers.config()
    _write(config, answers, file, keys, secret)
    print(f"{file} describes the share {config.share.name}")
    code = exitcodes.OK
    if not arguments.no_check:
        code = doctor.run(["--config", str(file)])
        if code == exitcodes.FAILURE:
            print(f"something is not well yet; cure it, then: gatewayfs doctor --config {file}")
            return code
    return _enable(arguments.name, file) if arguments.enable else _say_next(arguments.name, file, code)


def _parser() -> Parser:
    parser = Parser(
        "init",
        STORY,
        """gatewayfs init photos
        gatewayfs init photos --bucket company-photos/site-a --mount /srv/photos --yes --enable
        gatewayfs init photos --bucket b --endpoint-url http://nas:9000 --credentials-file /etc/keys/b --yes""",
    )
    parser.add_argument("name", metavar="NAME", help="what the share is called: gatewayfs@NAME")
    parser.add_argument("--bucket", metavar="BUCKET[/PREFIX]", help="what to show")
    parser.add_argument("--endpoint-url", metavar="URL", help="the store, if it is not AWS")
    parser.add_argument("--mount", metavar="DIR", help="where (default: /srv/NAME)")
    parser.add_argument("--cache-dir", metavar="DIR", help="default: /var/cache/gatewayfs/NAME")
    parser.add_argument("--cache-size", metavar="SIZE", help='like "500GiB" (default: 80 %% of the disk)')
    parser.add_argument("--credentials-file", metavar="FILE", help="a file with keys (mode 0600) that is there already")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="any further option")
    parser.add_argument("--yes", action="store_true", help="ask nothing; what no flag says gets its default")
    parser.add_argument("--force", action="store_true", help="overwrite what an earlier init wrote")
    parser.add_argument("--no-check", action="store_true", help="do not run gatewayfs doctor")
    parser.add_argument("--enable", action="store_true", help="start it now and at every boot (systemd)")
    parser.add_argument("--config-dir", metavar="DIR", type=Path, default=CONFIG_DIR, help=f"instead of {CONFIG_DIR}")
    return parser


class _Answers:
    """Options and their values so far, each found right.

    Args:
        ask: None: nobody is there to ask.
    """

    def __init__(self, arguments: argparse.Namespace, ask: Ask | None) -> None:
        self._ask = ask
        self._values = {"share.name": arguments.name}
        self._further = list(arguments.set)

    def take(self, option: str, given: str | None, question: str, default: str) -> None:
        """The flag's value, else what is answered, else the default ("": the option is left out)."""
        if given is not None or self._ask is None:
            self.put(option, default if given is None else given)
            return
        while True:
            shown = f" [{default}]" if default else ""
            answer = self._ask(f"{question}{shown}: ").strip() or default
            try:
                self.put(option, answer)
            except (ConfigError, UsageError) as mistake:
                print(mistake.message)
            else:
                return

    def put(self, option: str, value: str) -> None:
        """Raises ConfigError, and forgets the value, when it is wrong."""
        new = dict(self._values)
        if option == "share.bucket":
            new["share.bucket"], new["share.prefix"] = split_bucket_path(value)
        else:
            new[option] = value
        self._values = {name: text for name, text in self._load(new).items() if text}

    def config(self) -> ShareConfig:
        """Everything, with defaults."""
        return load(None, [*self._sets(self._values), *self._further], env={})

    def toml(self) -> str:
        """The file's text."""
        values = self._values | dict(item.split("=", 1) for item in self._further)
        lines = ["# Written by gatewayfs init. Every option: docs/configuration.md"]
        for section in dict.fromkeys(name.partition(".")[0] for name in values):
            lines += ["", f"[{section}]"]
            for name, value in values.items():
                if name.startswith(f"{section}."):
                    # JSON's strings are TOML's, and every option takes its value in quotes, as from --set.
                    lines.append(f"{name.partition('.')[2]} = {json.dumps(value, ensure_ascii=False)}")
        return "\n".join(lines) + "\n"

    def _load(self, values: dict[str, str]) -> dict[str, str]:
        if "share.bucket" in values:
            load(None, self._sets(values), env={})
        return values

    @staticmethod
    def _sets(values: dict[str, str]) -> list[str]:
        return [f"{name}={value}" for name, value in values.items() if value]


def _gather(answers: _Answers, given: argparse.Namespace, ask_secret: Ask | None) -> str:
    """Ask what no flag says; returns the text of the file of keys, or "" when there is none to write."""
    name = given.name
    if given.bucket is None and given.yes:
        raise UsageError("--bucket is missing", "with --yes nothing is asked")
    answers.take("share.bucket", given.bucket, "Bucket, or BUCKET/PREFIX", "")
    answers.take("s3.endpoint_url", given.endpoint_url, "Address of the store (empty: AWS)", "")
    answers.take("mount.directory", given.mount, "Mount directory", f"/srv/{name}")
    answers.take("cache.directory", given.cache_dir, "Cache directory, on a local disk", f"/var/cache/gatewayfs/{name}")
    answers.take("cache.size", given.cache_size, "Cache size (empty: 80 % of the disk)", "")
    if given.credentials_file is not None:
        answers.put("s3.credentials_file", given.credentials_file)
    elif ask_secret is not None:
        identity = ask_secret("Access key id (not shown; empty: from where boto3 looks): ").strip()
        secret = ask_secret("Secret access key (not shown): ").strip() if identity else ""
        if identity and not secret:
            raise UsageError("there is no secret access key for that id", "start again")
        if identity:
            return f"[default]\naws_access_key_id = {identity}\naws_secret_access_key = {secret}\n"
    return ""


def _write(config: ShareConfig, answers: _Answers, file: Path, keys: Path, secret: str) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for said in make_directories(config):
            print(said)
        if secret:
            write_new(keys, secret, 0o600)
            answers.put("s3.credentials_file", str(keys))
        write_new(file, answers.toml(), 0o644)
        if SYSTEMD_RUNS.exists():
            unit = UNITS / f"gatewayfs@{config.share.name}.service.d" / "paths.conf"
            unit.parent.mkdir(parents=True, exist_ok=True)
            write_new(unit, paths_unit(config), 0o644)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}", "run it as root, or name another place") from error


def _enable(name: str, file: Path) -> int:
    if not SYSTEMD_RUNS.exists():
        raise UserError("systemd does not run here, so nothing can be enabled", f"gatewayfs mount --config {file}")
    for command in (["daemon-reload"], ["enable", "--now", f"gatewayfs@{name}"]):
        done = subprocess.run(["systemctl", *command], check=False)
        if done.returncode:
            raise UserError(f"systemctl {' '.join(command)} failed", f"journalctl -u gatewayfs@{name} says why")
    print(f"gatewayfs@{name} serves, and will after every boot; gatewayfs status {name} shows how it is")
    return exitcodes.OK


def _say_next(name: str, file: Path, code: int) -> int:
    if SYSTEMD_RUNS.exists():
        print(f"next: systemctl daemon-reload; systemctl enable --now gatewayfs@{name}")
    else:
        print(f"next: gatewayfs mount --config {file}")
    return code

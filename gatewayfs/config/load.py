"""From a TOML file, ``--set`` and the environment to one checked ``ShareConfig``.

Later sources win: environment, file, command line flags, ``--set``. Every mistake is found in one pass and becomes one
line that names the place it was written, the option, the value and the cure; ``ConfigError`` carries all of them.
"""

import difflib
import hashlib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gatewayfs.config import secretfiles
from gatewayfs.config.kinds import SecretInValue, is_share_name
from gatewayfs.config.model import Option, ShareConfig, options
from gatewayfs.config.relations import nested, relations
from gatewayfs.errors import UserError

USAGE_EXIT_CODE = 2
"""Same number as ``cli.exitcodes.USAGE``, which this floor may not import."""

FLAGS = {
    "share.bucket": "BUCKET",
    "share.prefix": "PREFIX",
    "cache.directory": "--cache-dir",
    "s3.endpoint_url": "--endpoint-url",
}
"""Options with a place of their own on the command line, and what that place is called in messages."""


_NAME_CHARACTERS_MAX = 100


class ConfigError(UserError):
    """One or more mistakes in a share's configuration.

    Args:
        mistakes: one line each.
    """

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes), exit_code=USAGE_EXIT_CODE)


@dataclass
class _Gathered:
    """Raw values by section and option, where each came from, and mistakes met on the way."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)

    def put(self, name: str, value: object, source: str) -> None:
        section, _, option = name.partition(".")
        self.values.setdefault(section, {})[option] = value
        self.sources[name] = source

    def get(self, name: str) -> Any:
        section, _, option = name.partition(".")
        return self.values.get(section, {}).get(option)

    def default(self, name: str, value: object, source: str = "") -> None:
        if value is not None and self.get(name) is None:
            self.put(name, value, source)


def load(
    file: Path | None = None,
    sets: Iterable[str] = (),
    *,
    flags: Mapping[str, str] | None = None,
    mountpoint: Path | None = None,
    env: Mapping[str, str] = os.environ,
    euid: int | None = None,
) -> ShareConfig:
    """Read, check and complete a share's configuration.

    Args:
        file: TOML file, or None.
        sets: ``section.option=value`` each, as given to ``--set``.
        flags: options given by a flag or argument of their own (see ``FLAGS``), by option name.
        mountpoint: directory of the mount when it is known; becomes ``mount.directory``.
        env: the process's environment; boto3's names are honoured.
        euid: who we are; None asks the system. root gets /var/cache and allow_other.

    Raises:
        ConfigError: with every mistake, one line each.
    """
    table = {option.name: option for option in options()}
    gathered = _Gathered()
    if file is not None:
        _read_file(file, table, gathered)
    for name, value in (flags or {}).items():
        gathered.put(name, value, FLAGS.get(name, "command line"))
    for item in sets:
        _read_set(item, table, gathered)
    if mountpoint is not None:
        gathered.put("mount.directory", str(mountpoint.absolute()), "DIR")
    _complete(gathered, env, os.geteuid() if euid is None else euid)
    return _validated(gathered, table, env)


def share_name_for(bucket: str, prefix: str) -> str:
    """The name a share gets when nobody names it: unique for each (bucket, prefix) pair.

    ``_`` never occurs in a bucket's name, so ``b_p`` cannot be mistaken for a bucket; where the prefix itself had to be
    bent, a few digits of its hash keep two prefixes apart.
    """
    path = prefix.strip("/")
    if not path:
        return bucket
    name = f"{bucket}_" + re.sub(r"[^A-Za-z0-9.-]", "_", path)
    if name == f"{bucket}_{path.replace('/', '_')}" and "_" not in path and len(name) <= _NAME_CHARACTERS_MAX:
        return name
    digest = hashlib.sha256(f"{bucket}/{path}".encode()).hexdigest()[:8]
    return f"{name[: _NAME_CHARACTERS_MAX - len(digest) - 1]}_{digest}"


def _read_file(file: Path, table: Mapping[str, Option], gathered: _Gathered) -> None:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: is not UTF-8 text (byte {error.start}); save it as UTF-8"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{file}: is not TOML: {error}"]) from error
    sections = {name.partition(".")[0] for name in table}
    for section, body in content.items():
        if section not in sections:
            gathered.mistakes.append(f"{file}: {_unknown(section, table)}")
        elif not isinstance(body, dict):
            gathered.mistakes.append(f"{file}: {section} is a section; write [{section}] and its options below")
        else:
            for option, value in body.items():
                _put_known(f"{section}.{option}", value, str(file), table, gathered)


def _read_set(item: str, table: Mapping[str, Option], gathered: _Gathered) -> None:
    name, equals, value = item.partition("=")
    if not equals:
        gathered.mistakes.append(f"--set {item}: a value is missing; write --set option=value")
        return
    _put_known(name.strip(), value.strip(), f"--set {name.strip()}", table, gathered)


def _put_known(name: str, value: object, source: str, table: Mapping[str, Option], gathered: _Gathered) -> None:
    if name in table:
        gathered.put(name, value, source)
    else:
        place = "--set" if source.startswith("--set") else source
        gathered.mistakes.append(f"{place}: {_unknown(name, table)}")


def _unknown(name: str, table: Mapping[str, Option]) -> str:
    """The nearest known name: by the whole, else by the option's last word (somebody forgot the section)."""
    sections = list(dict.fromkeys(option.section for option in table.values()))
    if "." not in name:
        near_section = difflib.get_close_matches(name, sections, n=1, cutoff=0.6)
        if near_section:
            return f"[{name}] is not a section; did you mean [{near_section[0]}]?"
    near = difflib.get_close_matches(name, table, n=1, cutoff=0.75)
    if not near:
        last_words = {option_name.rpartition(".")[2]: option_name for option_name in table}
        word = difflib.get_close_matches(name.rpartition(".")[2], last_words, n=1, cutoff=0.75)
        near = [last_words[word[0]]] if word else []
    if near:
        return f"{name} is not an option; did you mean {near[0]}?"
    section = name.partition(".")[0]
    known = [option.name for option in table.values() if option.section == section]
    if known:
        return f"{name} is not an option; [{section}] has {', '.join(known)}"
    return f"{name} is not an option; the sections are {', '.join(sections)}"


def _complete(gathered: _Gathered, env: Mapping[str, str], euid: int) -> None:
    """Put in what depends on the environment or on other options."""
    ignore = env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    endpoints = () if ignore else ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    for option, names in (
        ("s3.endpoint_url", endpoints),
        ("s3.region", ("AWS_REGION", "AWS_DEFAULT_REGION")),
        ("s3.ca_bundle", ("AWS_CA_BUNDLE",)),
    ):
        for name in names:
            gathered.default(option, env.get(name) or None, name)
    bucket, prefix = gathered.get("share.bucket"), gathered.get("share.prefix")
    derived = share_name_for(bucket if isinstance(bucket, str) else "", prefix if isinstance(prefix, str) else "")
    # Never empty and never refused, so that a mistake in the bucket's name is told once, not three times.
    fallback = derived if is_share_name(derived) else "share"
    gathered.default("share.name", fallback)
    name = gathered.get("share.name")
    cache_root = "/var/cache" if euid == 0 else env.get("XDG_CACHE_HOME") or f"{env.get('HOME', '/tmp')}/.cache"
    gathered.default("cache.directory", f"{cache_root}/gatewayfs/{name if is_share_name(name) else fallback}")
    for option in secretfiles.OPTIONS:
        value = gathered.get(option)
        if isinstance(value, str) and value.startswith(secretfiles.VARIABLE_WRITTEN):
            try:
                gathered.put(option, secretfiles.expanded(value, env), gathered.sources[option])
            except ValueError as error:
                gathered.mistakes.append(f'{gathered.sources[option]}: {option} = "{value}": {error}')
                gathered.put(option, None, gathered.sources[option])
    # FUSE lets only root give others access, unless /etc/fuse.conf says user_allow_other.
    gathered.default("mount.allow_other", euid == 0)


def _validated(gathered: _Gathered, table: Mapping[str, Option], env: Mapping[str, str]) -> ShareConfig:
    sections = {section: gathered.values.get(section, {}) for section in ShareConfig.model_fields}
    try:
        config = ShareConfig.model_validate(sections)
    except ValidationError as error:
        told = [_told(detail, gathered, table) for detail in error.errors()]
        raise ConfigError([*gathered.mistakes, *told]) from None
    mistakes = [*gathered.mistakes, *relations(config), *secretfiles.mistakes(config, env)]
    if mistakes:
        raise ConfigError(mistakes)
    return config


def _told(detail: ErrorDetails, gathered: _Gathered, table: Mapping[str, Option]) -> str:
    """One line for one of pydantic's findings."""
    name = ".".join(str(part) for part in detail["loc"][:2])
    option = table[name]
    if detail["type"] == "missing":
        return f"{name} is missing; name the bucket, as BUCKET on the command line or in [share]"
    source = gathered.sources.get(name, "")
    context = detail.get("ctx", {})
    reason = _reason(detail["type"], context, option) or detail["msg"]
    shown = "" if isinstance(context.get("error"), SecretInValue) else f" = {_shown(gathered.get(name))}"
    place = f"{source}: " if source and not source.startswith("--set") else ""
    return f"{place}{'--set ' if source.startswith('--set') else ''}{name}{shown}: {reason}"


def _reason(error_type: str, context: Mapping[str, Any], option: Option) -> str:
    if error_type == "value_error":
        return str(context["error"])
    if error_type == "greater_than_equal":
        return f"too small; at least {option.kind.write(context['ge'])}"
    if error_type == "less_than_equal":
        return f"too large; at most {option.kind.write(context['le'])}"
    if error_type == "literal_error":
        return "not one of the choices; write " + " or ".join(f'"{choice}"' for choice in option.choices)
    return ""


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return text if len(text) <= 80 else text[:77] + "..."


__all__ = ["FLAGS", "ConfigError", "load", "nested", "share_name_for"]

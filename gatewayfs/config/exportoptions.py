"""The options of the NFS export, and what nfs-ganesha would not understand: each told in one line with the cure."""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gatewayfs.config.kinds import Count, Flag, Kind
from gatewayfs.config.section import Section

EXPORT_ID_MAX = 65535
ACCESSES = ("rw", "ro", "none")
PROTOCOLS = ("3", "4")
SECURITIES = ("sys", "krb5", "krb5i", "krb5p")
# What needs no quoting in ganesha's configuration, nor in a client's mount command.
_PSEUDO_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")


@dataclass(frozen=True, slots=True)
class ClientRule:
    """What one network of clients may do."""

    network: str
    access: Literal["rw", "ro", "none"]


def client_rule(text: str) -> ClientRule:
    """``10.0.0.0/8=ro`` -> network and access; without ``=`` it is ``rw``. Raises ValueError with the cure."""
    network, equals, access = (part.strip() for part in text.partition("="))
    if equals and access not in ACCESSES:
        raise ValueError(f'{access or "nothing"} is not an access; write "{network}=rw", "{network}=ro" or "=none"')
    try:
        parsed = ipaddress.ip_network(network, strict=True)
    except ValueError:
        raise ValueError(f"{network or text} is not a network; {_nearest_network(network)}") from None
    shown = str(parsed.network_address) if parsed.prefixlen == parsed.max_prefixlen else str(parsed)
    return ClientRule(shown, "ro" if access == "ro" else "none" if access == "none" else "rw")


def _nearest_network(text: str) -> str:
    try:
        return f"did you mean {ipaddress.ip_network(text, strict=False)}? The bits after the prefix must be zero"
    except ValueError:
        return 'write addresses or networks like "192.0.2.7", "10.0.0.0/8=ro" or "2001:db8::/32"'


def _items(value: object, example: str) -> list[str]:
    items = [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"write a list like {example}")
    return [str(item) for item in items]


def _clients(value: object) -> object:
    items = _items(value, '["10.0.0.0/8", "192.0.2.7=ro", "2001:db8::/32=none"]')
    rules = [client_rule(item) for item in items]
    seen: set[str] = set()
    for rule in rules:
        if rule.network in seen:
            raise ValueError(f"{rule.network} stands there twice; only the first would count")
        seen.add(rule.network)
    return tuple(f"{rule.network}={rule.access}" for rule in rules)


def _chosen(value: object, known: tuple[str, ...], example: str) -> object:
    items = _items(value, example)
    if not items or len(set(items)) < len(items) or not set(items) <= set(known):
        raise ValueError(f"name one or more of {', '.join(known)}, each once, like {example}")
    return tuple(item for item in known if item in items)


def _protocols(value: object) -> object:
    return _chosen(value, PROTOCOLS, '["3", "4"]')


def _security(value: object) -> object:
    return _chosen(value, SECURITIES, '["krb5", "krb5p"]')


def _pseudo_path(value: object) -> object:
    if not isinstance(value, str) or not _PSEUDO_PATH.fullmatch(value) or {".", ".."} & set(value.split("/")):
        raise ValueError('write a path like "/photos": letters, digits, dots, dashes, underscores; not "/" alone')
    return value


def _written(value: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in value) + "]"


Clients = Annotated[tuple[str, ...], BeforeValidator(_clients), Kind("list of text", _written)]
Protocols = Annotated[tuple[str, ...], BeforeValidator(_protocols), Kind("list of text", _written)]
Security = Annotated[tuple[str, ...], BeforeValidator(_security), Kind("list of text", _written)]
PseudoPath = Annotated[str, BeforeValidator(_pseudo_path), Kind("path", str)]


class ExportOptions(Section):
    """How NFS clients see the share. Nothing here changes the mount itself; ``gatewayfs export`` reads it."""

    enabled: Flag = Field(False, description="The mount is to be exported: it keeps its device number.")
    path: PseudoPath | None = Field(None, description="The path clients mount; by default / and the share's name.")
    protocols: Protocols = Field(PROTOCOLS, description="NFS versions, 3 and 4.")
    clients: Clients = Field((), description="Who may mount, and how; by default everybody who reaches the server.")
    read_only: Flag = Field(False, description="No client may write, whatever the client list says.")
    security: Security = Field(("sys",), description="How clients prove who they are.")
    # Part of every file handle that clients hold.
    id: Count | None = Field(
        None, ge=1, le=EXPORT_ID_MAX, description="Number of the export; by default made from bucket and prefix."
    )

    @property
    def rules(self) -> tuple[ClientRule, ...]:
        """``clients``, taken apart; writing is taken away where the export is read-only."""
        given = (client_rule(item) for item in self.clients)
        return tuple(ClientRule(rule.network, "ro") if self._limits(rule) else rule for rule in given)

    @property
    def kerberos(self) -> bool:
        """Whether any flavour of it may be used."""
        return any(flavour.startswith("krb5") for flavour in self.security)

    def _limits(self, rule: ClientRule) -> bool:
        return self.read_only and rule.access == "rw"


def exporting(export: ExportOptions) -> Iterator[str]:
    """One line for each pair of options that contradict each other."""
    if export.clients and all(rule.access == "none" for rule in export.rules):
        yield "export.clients lets nobody in: every access is none; give at least one network rw or ro"

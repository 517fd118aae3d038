"""The options of identity: whom files belong to, here and in the bucket."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from gatewayfs.config.kinds import ID_MAX, Count, IdTable, Kind, Mode
from gatewayfs.config.section import Section


class IdentityOptions(Section):
    """Whom files belong to. ``vfs/identity.py`` says how these work together."""

    # NFS servers' and File Gateway's default: who is root on one machine is not root of everybody's files.
    squash: Annotated[Literal["root", "all", "none"], Kind("choice", str)] = Field(
        "root", description="Whose files are kept as the anonymous user's."
    )
    anonymous_uid: Count = Field(65534, ge=1, le=ID_MAX, description="The anonymous user.")
    anonymous_gid: Count = Field(65534, ge=1, le=ID_MAX, description="The anonymous group.")
    force_uid: Count | None = Field(None, ge=0, le=ID_MAX, description="Everything belongs to this user.")
    force_gid: Count | None = Field(None, ge=0, le=ID_MAX, description="Everything belongs to this group.")
    force_umask: Mode = Field(0, le=0o777, description="Permission bits that nothing has.")
    uid_map: IdTable = Field((), description="User ids here, and what the bucket says for them.")
    gid_map: IdTable = Field((), description="Group ids here, and what the bucket says for them.")


def contradictions(identity: IdentityOptions, default_uid: int, default_gid: int) -> Iterator[str]:
    """One line for each pair of options that contradict each other."""
    for kind, anonymous, forced, table, default in (
        ("uid", identity.anonymous_uid, identity.force_uid, dict(identity.uid_map), default_uid),
        ("gid", identity.anonymous_gid, identity.force_gid, dict(identity.gid_map), default_gid),
    ):
        if identity.squash != "none":
            if forced == 0:
                yield (
                    f"identity.force_{kind} is 0 and identity.squash is {identity.squash}, which keeps nothing as 0; "
                    "set identity.squash to none"
                )
            if 0 in table or 0 in table.values():
                yield (
                    f"identity.{kind}_map names 0 and identity.squash is {identity.squash}, which keeps nothing as 0; "
                    "set identity.squash to none, or take 0 out"
                )
        sites = {stored: site for site, stored in table.items()}
        for name, site in (
            (f"identity.anonymous_{kind}", anonymous),
            (f"identity.force_{kind}", forced),
            (f"metadata.{kind}", default),
        ):
            if site in sites and site not in table:
                yield (
                    f"{name} is {site}, which identity.{kind}_map already uses in the bucket for {sites[site]}; "
                    f"map {site} to an id of its own too"
                )

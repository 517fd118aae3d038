"""Whose a file is: between the people of this site and what the bucket says.          [pure]

Two numberings meet here. A *site id* is what programs on the mount see and use; a *stored id* is what object metadata
(``file-owner``, ``file-group``) says, and with it every inode record, so that nothing below this floor knows of site
ids, and a changed table takes effect at the next mount without a record being touched.

    arrives (create, mkdir, chown ...)   site id -> forced, or squashed -> table -> stored id
    is shown (stat, readdir ...)         stored id -> table -> site id, or forced

Squash speaks of what arrives only: an object that belongs to root in the bucket is shown as it is. The table is a
bijection among the ids it names. An id it does not name stays what it is, unless that number is taken by one it does
name: then it is shown, or kept, as the anonymous id. Never does a file come to belong to somebody by accident.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewayfs.meta.schema import Inode

ROOT_ID = 0
NOBODY = 65534


class Squash(enum.Enum):
    """Whose files are kept as the anonymous user's."""

    NONE = "none"
    ROOT = "root"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Numbering:
    """The rules for user ids, or those for group ids.

    Attributes:
        anonymous: the site id that stands in for squashed and unmappable ones.
        forced: the site id that everything belongs to, or None.
        table: site id -> stored id; no value twice.
    """

    squash: Squash = Squash.NONE
    anonymous: int = NOBODY
    forced: int | None = None
    table: Mapping[int, int] = field(default_factory=dict)
    _site_of: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_site_of", {stored: site for site, stored in self.table.items()})

    def stored(self, site: int) -> int:
        """What is kept for an owner that arrives as ``site``."""
        if self.forced is not None:
            return self.mapped(self.forced)
        if self.squash is Squash.ALL or (self.squash is Squash.ROOT and site == ROOT_ID):
            return self.mapped(self.anonymous)
        return self.mapped(site)

    def inherited(self, stored: int) -> int:
        """What is kept for an owner taken from a record, as in setgid directories: that, unless one is forced."""
        return stored if self.forced is None else self.mapped(self.forced)

    def mapped(self, site: int) -> int:
        """The table alone: nobody is squashed or forced."""
        if site in self.table:
            return self.table[site]
        if site not in self._site_of or site == self.anonymous:
            return site
        return self.mapped(self.anonymous)

    def shown(self, stored: int) -> int:
        """What programs see for an owner kept as ``stored``."""
        if self.forced is not None:
            return self.forced
        if stored in self._site_of:
            return self._site_of[stored]
        return stored if stored not in self.table else self.anonymous


@dataclass(frozen=True, slots=True)
class Identity:
    """The rules of one share. The default changes nothing.

    Attributes:
        umask: permission bits that nothing has here: taken from what arrives and from what is shown.
    """

    users: Numbering = field(default_factory=Numbering)
    groups: Numbering = field(default_factory=Numbering)
    umask: int = 0

    def shown(self, inode: Inode) -> tuple[int, int, int]:
        """Mode, owner and group as programs see them."""
        mode = inode.mode if inode.is_symlink else inode.mode & ~self.umask
        return mode, self.users.shown(inode.uid), self.groups.shown(inode.gid)

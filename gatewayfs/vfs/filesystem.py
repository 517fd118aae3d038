"""The file system as one object: what a transport (FUSE, a test) drives."""

from gatewayfs.vfs.attributes import Attributes
from gatewayfs.vfs.directories import Directories
from gatewayfs.vfs.files import Files
from gatewayfs.vfs.namespace import Namespace
from gatewayfs.vfs.renaming import Renaming
from gatewayfs.vfs.share import Share
from gatewayfs.vfs.walking import Walking


class Filesystem:
    """All operations, grouped by what they are about."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.names = Namespace(share)
        self.renaming = Renaming(share, self.names)
        self.attributes = Attributes(share)
        self.walking = Walking(share)
        self.files = Files(share, self.names, self.walking.opened)
        self.directories = Directories(share, self.walking.entered)

    def remove_orphans(self) -> int:
        """At start: files that were unlinked but open when the daemon went away have nobody left. Returns how many."""
        orphans = list(self.share.meta.iter_orphans())
        for ino in orphans:
            self.share.remove_orphan(ino)
        return len(orphans)

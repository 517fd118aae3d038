"""What POSIX calls mean here.

No FUSE types: plain values in, records out, typed errors raised. The same object is driven by the FUSE transport, by
tests without a mount, and by whatever transport comes next.

Every operation has the same shape: first wait until the records know enough (a listing, a HEAD), then look again, then
decide and write *one* transaction without an await in between.
"""

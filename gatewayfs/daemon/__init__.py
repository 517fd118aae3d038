"""The composition root: builds the parts of one share, wires them, starts and stops them in order.

claim      the cache directory is ours alone, belongs to this bucket, and has a root inode
build      every part, each given what it needs by its constructor
service    what the control socket answers
run        the order of start and stop, signals, systemd
"""

from gatewayfs.daemon.run import run_daemon

__all__ = ["run_daemon"]

"""The transport: requests of the kernel in, answers out. Only this package imports pyfuse3.

``operations`` decodes, calls ``vfs`` and encodes; ``errnos`` is the one table from errors to errno; ``notify`` tells
the kernel what to forget; ``session`` mounts, serves and unmounts.
"""

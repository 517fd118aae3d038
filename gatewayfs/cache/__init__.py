"""SSD bytes: which bytes of which file are on this machine, and how they get here and go.

``content`` is the front (``ContentCache``), ``live`` one file in use, ``packs`` the small files, ``extents`` the pure
interval set, ``fetch`` the way from the bucket.
"""

"""Names, attributes and the queue: LMDB behind a journal. ``schema`` is the canon, ``env`` the front."""

"""The object store: ``store`` is the protocol everybody above knows, ``client`` the one that talks HTTP."""

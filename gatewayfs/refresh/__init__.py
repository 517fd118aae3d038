"""The bucket becomes names and attributes, on first use and again when asked. ``refresher`` is the front."""

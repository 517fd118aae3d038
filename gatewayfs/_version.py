"""The version, in one place: what the installed package says, or what a source tree without one is."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gatewayfs")
except PackageNotFoundError:
    __version__ = "0+source"

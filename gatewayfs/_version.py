"""The version, in one place: what the installed package says, or what a source tree without one is."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("gatewayfs")
except PackageNotFoundError:
    VERSION = "0+source"

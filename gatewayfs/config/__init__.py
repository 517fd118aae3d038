"""A share's configuration: the option table (``model``), how values are written (``units``), reading it (``load``)."""

from gatewayfs.config.eventoptions import EventsOptions
from gatewayfs.config.exportoptions import ClientRule, ExportOptions
from gatewayfs.config.kinds import normalize_prefix
from gatewayfs.config.load import FLAGS, ConfigError, load, share_name_for
from gatewayfs.config.logoptions import LogOptions
from gatewayfs.config.model import (
    CacheOptions,
    MetadataOptions,
    MountOptions,
    Option,
    S3Options,
    ShareConfig,
    ShareOptions,
    ThrottleOptions,
    UploadOptions,
    options,
)
from gatewayfs.config.refreshoptions import RefreshOptions
from gatewayfs.config.relations import nested

__all__ = [
    "FLAGS",
    "CacheOptions",
    "ClientRule",
    "ConfigError",
    "EventsOptions",
    "ExportOptions",
    "LogOptions",
    "MetadataOptions",
    "MountOptions",
    "Option",
    "RefreshOptions",
    "S3Options",
    "ShareConfig",
    "ShareOptions",
    "ThrottleOptions",
    "UploadOptions",
    "load",
    "nested",
    "normalize_prefix",
    "options",
    "share_name_for",
]

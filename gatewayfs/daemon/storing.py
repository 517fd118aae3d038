"""The share's configuration as the S3 client's options."""

from gatewayfs.config import ShareConfig
from gatewayfs.s3.boto import StoreOptions
from gatewayfs.s3.options import ObjectOptions


def store_options(config: ShareConfig) -> StoreOptions:
    """How the bucket is reached."""
    options = config.s3
    return StoreOptions(
        endpoint_url=options.endpoint_url or "",
        region=options.region or "",
        profile=options.profile or "",
        credentials_file=str(options.credentials_file or ""),
        addressing=options.addressing,
        ca_bundle=str(options.ca_bundle or ""),
        proxy=options.proxy or "",
        dual_stack=options.dual_stack,
    )


def object_options(config: ShareConfig) -> ObjectOptions:
    """What requests and objects carry."""
    objects = config.objects
    pairs = (tag.partition("=") for tag in objects.tags)
    return ObjectOptions(
        storage_class=objects.storage_class or "",
        keep_storage_class=objects.keep_storage_class,
        acl="" if objects.acl == "default" else objects.acl,
        keep_acl=objects.keep_acl,
        tags=tuple((name, value) for name, _, value in pairs),
        check_tags=objects.check_tags,
        encryption=objects.encryption,
        kms_key=objects.kms_key or "",
        bucket_key=objects.bucket_key,
        checksum="" if objects.checksum == "none" else objects.checksum,
        requester_pays=config.s3.requester_pays,
        bucket_owner=config.s3.bucket_owner or "",
    )

"""Small edits of a large file against a production server, counted on the wire."""

from collections.abc import Callable

import pytest

from tests.support.editing import EditedFile, edit_and_count
from tests.support.gateway import Gateway
from tests.support.link import Link
from tests.support.s3server import Bucket


@pytest.mark.mount
def test_small_edits_of_a_large_file_cost_little_on_the_wire(gateway: Callable[..., Gateway], bucket: Bucket) -> None:
    with Link(bucket.endpoint_url) as link:
        share = gateway(settings={"upload.settle": "200ms"}, endpoint_url=link.url)
        edit_and_count(EditedFile(share, bucket, link, 128 << 20))
        share.terminate()

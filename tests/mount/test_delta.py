"""Small edits of a large file cost little on the wire. (moto ignores conditions on copied parts; the e2e tier and
tests/component/upload/test_delta.py show what becomes of other people's writes.)"""

from collections.abc import Callable

import pytest

from tests.support.editing import EditedFile, edit_and_count
from tests.support.gateway import Gateway
from tests.support.link import Link
from tests.support.s3server import Bucket


@pytest.mark.semantics("delta-uploads")
def test_small_edits_of_a_large_file_cost_little_on_the_wire(gateway: Callable[..., Gateway], bucket: Bucket) -> None:
    with Link(bucket.endpoint_url) as link:
        # moto answers 500 to GetObjectAcl for what was uploaded in parts.
        settings = {"upload.settle": "200ms", "objects.keep_acl": "false"}
        share = gateway(settings=settings, endpoint_url=link.url)
        edit_and_count(EditedFile(share, bucket, link, 32 << 20))
        share.terminate()

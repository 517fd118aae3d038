"""The end-to-end tier: the same promises, with a production S3 server.

Tests here get ``bucket`` (and so ``gateway``) on that server instead of moto. The contract suite joins by itself:
``tests/contract`` marks its production-server parameter ``e2e`` and asks for the same ``production_endpoint``.
"""

from collections.abc import Iterator

import pytest

from tests.support.s3server import Bucket, fresh_bucket


@pytest.fixture
def bucket(production_endpoint: str) -> Iterator[Bucket]:
    """An empty bucket of this test's own on the production server."""
    with fresh_bucket(production_endpoint) as made:
        yield made

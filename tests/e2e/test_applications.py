"""The programs of tests/mount, with a production S3 server behind the mount."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_applications import test_a_gateway_with_an_empty_cache_sees_what_another_wrote as _empty_cache
from tests.mount.test_applications import test_an_editors_save_leaves_one_version_of_one_object as _editors_save
from tests.support.applications import ALL, Application
from tests.support.bucketcompare import compare_with_bucket
from tests.support.gateway import Gateway

test_an_editors_save_leaves_one_version_of_one_object = _editors_save
test_a_gateway_with_an_empty_cache_sees_what_another_wrote = _empty_cache


@pytest.mark.parametrize("application", ALL, ids=lambda application: application.__name__)
def test_a_program_works_on_the_mount_and_its_files_are_in_the_bucket(
    application: Application, gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    served = gateway()
    work = served.mount_dir / "work"
    work.mkdir()
    application(work, tmp_path)
    served.drain()
    compare_with_bucket(served.bucket, "work/", work)

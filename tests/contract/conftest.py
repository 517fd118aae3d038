"""The stores that must all keep the contract: the fake, moto, and the production server (marked ``e2e``)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import pytest

from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.offload import Offload
from gatewayfs.s3.boto import StoreOptions, resolve
from gatewayfs.s3.capabilities import ProbedStore
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.options import ObjectOptions
from tests.contract.limits import LIMITS
from tests.support.fakestore import FakeObjectStore
from tests.support.s3server import Bucket, fresh_bucket

EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"
OPTIONS = ObjectOptions(checksum="crc64nvme")
STORES = ["fake", "moto", pytest.param("server", marks=pytest.mark.e2e)]


class Foreigner(Protocol):
    """Somebody else who works in the same bucket, with more rights and other tools than the store has."""

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str], tags: Mapping[str, str]) -> None: ...

    def put_special(self, key: str, data: bytes, *, storage_class: str = "", public: bool = False) -> None:
        """Put an object in another storage class, or one that everybody may read."""
        ...

    def storage_class(self, key: str) -> str: ...

    def is_public(self, key: str) -> bool: ...

    def tags(self, key: str) -> dict[str, str]: ...

    def enable_versioning(self) -> None: ...

    def versions(self, key: str) -> int:
        """How many versions and delete markers the key has."""
        ...


class FakeForeigner:
    def __init__(self, store: FakeObjectStore) -> None:
        self._store = store

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str], tags: Mapping[str, str]) -> None:
        self._store.foreign_put(key, data, metadata, tags=tags)

    def put_special(self, key: str, data: bytes, *, storage_class: str = "", public: bool = False) -> None:
        grants = {"x-amz-grant-read": f'uri="{EVERYBODY}"'} if public else {}
        self._store.foreign_put(key, data, grants=grants, storage_class=storage_class or "STANDARD")

    def storage_class(self, key: str) -> str:
        return self._store.raw[key].storage_class

    def is_public(self, key: str) -> bool:
        return any(EVERYBODY in names for names in self._store.raw[key].grants.values())

    def tags(self, key: str) -> dict[str, str]:
        return dict(self._store.raw[key].tags)

    def enable_versioning(self) -> None:
        self._store.enable_versioning()

    def versions(self, key: str) -> int:
        return len(self._store.versions(key))


class BotoForeigner:
    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str], tags: Mapping[str, str]) -> None:
        extra = {"Tagging": urlencode(tags, quote_via=quote)} if tags else {}
        self._bucket.put(key, data, Metadata=dict(metadata), **extra)

    def put_special(self, key: str, data: bytes, *, storage_class: str = "", public: bool = False) -> None:
        extra = {"StorageClass": storage_class} if storage_class else {}
        self._bucket.put(key, data, **extra, **({"ACL": "public-read"} if public else {}))

    def storage_class(self, key: str) -> str:
        answer: dict[str, Any] = self._bucket.s3.head_object(Bucket=self._bucket.name, Key=key)
        return str(answer.get("StorageClass", "STANDARD"))

    def is_public(self, key: str) -> bool:
        answer = self._bucket.s3.get_object_acl(Bucket=self._bucket.name, Key=key)
        return any(grant["Grantee"].get("URI") == EVERYBODY for grant in answer["Grants"])

    def tags(self, key: str) -> dict[str, str]:
        answer = self._bucket.s3.get_object_tagging(Bucket=self._bucket.name, Key=key)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def enable_versioning(self) -> None:
        self._bucket.s3.put_bucket_versioning(Bucket=self._bucket.name, VersioningConfiguration={"Status": "Enabled"})

    def versions(self, key: str) -> int:
        answer: dict[str, Any] = self._bucket.s3.list_object_versions(Bucket=self._bucket.name, Prefix=key)
        found = [*answer.get("Versions", ()), *answer.get("DeleteMarkers", ())]
        return sum(1 for entry in found if entry["Key"] == key)


@pytest.fixture(params=STORES)
def party(request: pytest.FixtureRequest) -> Iterator[tuple[ProbedStore, Foreigner]]:
    """A store on an empty bucket, and a foreigner in the same bucket."""
    if request.param == "fake":
        fake = FakeObjectStore()
        yield fake, FakeForeigner(fake)
        return
    endpoint = request.getfixturevalue("moto_endpoint" if request.param == "moto" else "production_endpoint")
    with fresh_bucket(endpoint) as bucket:
        connection = resolve(bucket.name, StoreOptions(endpoint_url=endpoint))
        store = HttpObjectStore(connection, Offload(16), SystemClock(), options=OPTIONS)
        try:
            yield store, BotoForeigner(bucket)
        finally:
            store.close()


@pytest.fixture
def store(party: tuple[ProbedStore, Foreigner]) -> ProbedStore:
    return party[0]


@pytest.fixture
def foreigner(party: tuple[ProbedStore, Foreigner]) -> Foreigner:
    return party[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A server's known limits are expected failures: shown with their reason, and noticed the day they are gone."""
    for item in items:
        if not item.path.is_relative_to(Path(__file__).parent):
            continue
        parameters = getattr(item, "callspec", None)
        server = parameters.params.get("party") if parameters is not None else None
        for limit in LIMITS:
            if limit.server == server and limit.covers(item.name):
                item.add_marker(pytest.mark.xfail(reason=f"{server}: {limit.reason}", strict=True))

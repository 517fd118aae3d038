"""How long the keys below a directory are: what a rename must know before it makes them longer."""

import trio

from gatewayfs.errors import StoreError, Unavailable
from gatewayfs.meta.env import MetaStore
from gatewayfs.refresh.listing import LIST_KEYS_MAX
from gatewayfs.refresh.settings import RefreshSettings
from gatewayfs.refresh.waiting import Requests, as_fs_error
from gatewayfs.s3.store import ListPage, ObjectStore


class LongestKey:
    """Asks the bucket."""

    def __init__(self, meta: MetaStore, store: ObjectStore, requests: Requests, settings: RefreshSettings) -> None:
        self._meta = meta
        self._store = store
        self._requests = requests
        self._deadline_s = settings.deadline_s
        self.lists = 0

    async def below(self, ino: int) -> int:
        """Bytes of the longest key below a directory, relative to it, as the bucket has it now; 0 when there is none.

        Asks for every key, 1000 at a time.

        Raises:
            Unavailable: the bucket does not answer, or not all within the deadline. PermissionDenied, StaleInode.
        """
        until = trio.current_time() + self._deadline_s
        directory = self._meta.require(ino).directory
        if directory is None or directory.source is None:
            return 0
        source, token, longest = directory.source, "", 0
        try:
            with trio.fail_at(until):
                while True:
                    page = await self._requests.send(self._keys, source, token, until=lambda: until)
                    self.lists += 1
                    longest = max(longest, *(len(row.key.encode()) for row in page.objects), 0)
                    token = page.next_token
                    if not token:
                        return max(0, longest - len(source.encode()))
        except trio.TooSlowError:
            raise Unavailable(f"too many keys to look through in time: {self._store.bucket}/{source}") from None
        except StoreError as error:
            raise as_fs_error(error) from error

    async def _keys(self, source: str, token: str) -> ListPage:
        return await self._store.list_page(source, delimiter=False, token=token, max_keys=LIST_KEYS_MAX)

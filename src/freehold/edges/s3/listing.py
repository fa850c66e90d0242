"""A page of a bucket, keys rolled up at a delimiter."""

from collections.abc import Callable
from dataclasses import dataclass, field

from freehold.ports.blobs import Blob, Blobs

_PAGE_ITEMS_MAX = 1000
_PAGE_ITEMS_MIN = 8
# The last character there is: no key under a common prefix sorts behind it, save those that begin
# with it, which are then rolled up again.
_LAST = "\U0010ffff"


@dataclass(slots=True)
class Listing:
    """`position` is where the next page starts, or None after the last."""

    blobs: list[Blob] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    position: str | None = None

    def __len__(self) -> int:
        return len(self.blobs) + len(self.prefixes)


def behind(common_prefix: str) -> str:
    """A position after all that the prefix rolls up."""
    return common_prefix + _LAST


async def list_keys(
    blobs: Blobs,
    tenant: str,
    bucket: str,
    *,
    prefix: str,
    delimiter: str,
    after: str,
    items_max: int,
) -> Listing:
    """Up to `items_max` keys and common prefixes, in one order.

    What a common prefix rolls up is jumped over, never read through: at most one page of it.
    """
    listing = Listing()
    rolled_up = _roller(prefix, delimiter)
    last_prefix = rolled_up(after) if after.endswith(_LAST) else None
    position = after
    page_items = items_max + 1 if not delimiter else min(items_max + 1, 100)
    while True:
        page = await blobs.list(
            tenant, bucket, prefix=prefix, after=position, limit=min(page_items, _PAGE_ITEMS_MAX)
        )
        found_before = len(listing)
        for blob in page.items:
            common = rolled_up(blob.key)
            if common is not None and common == last_prefix:
                continue
            if len(listing) >= items_max:
                listing.position = position
                return listing
            last_prefix = common
            if common is None:
                listing.blobs.append(blob)
                position = blob.key
            else:
                listing.prefixes.append(common)
                position = behind(common)
        if page.next_token is None:
            return listing
        position = behind(last_prefix) if last_prefix is not None else page.next_token
        # Few items of many keys: everything is under prefixes, and a page is read for nothing.
        found = len(listing) - found_before
        page_items = max(_PAGE_ITEMS_MIN, 2 * found) if 2 * found < page_items else 4 * page_items


def _roller(prefix: str, delimiter: str) -> Callable[[str], str | None]:
    def rolled_up(key: str) -> str | None:
        if not delimiter or not key.startswith(prefix):
            return None
        at = key.find(delimiter, len(prefix))
        return None if at < 0 else key[: at + len(delimiter)]

    return rolled_up

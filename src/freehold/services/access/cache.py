"""Recently seen access keys, bounded in number and in age."""

import time
from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class AgingCache(Generic[V]):
    """The least recently stored goes first. `get` costs no more than a dict's."""

    def __init__(self, *, items_max: int, seconds_max: float) -> None:
        self._items_max = items_max
        self._seconds_max = seconds_max
        self._items: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def get(self, key: str) -> V | None:
        item = self._items.get(key)
        if item is None:
            return None
        if item[0] < time.monotonic():
            del self._items[key]
            return None
        return item[1]

    def put(self, key: str, value: V) -> None:
        self._items.pop(key, None)
        self._items[key] = (time.monotonic() + self._seconds_max, value)
        if len(self._items) > self._items_max:
            self._items.popitem(last=False)

    def drop(self, key: str) -> None:
        self._items.pop(key, None)

    def clear(self) -> None:
        self._items.clear()

    def __len__(self) -> int:
        return len(self._items)

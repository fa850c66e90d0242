"""The cache of access keys is bounded in number and in age."""

from freehold.services.access.cache import AgingCache


def test_it_holds_no_more_than_it_may_and_keeps_the_newest() -> None:
    cache: AgingCache[int] = AgingCache(items_max=3, seconds_max=60)
    for n in range(10):
        cache.put(str(n), n)
    assert len(cache) == 3
    assert [cache.get(str(n)) for n in range(10)] == [None] * 7 + [7, 8, 9]


def test_putting_again_renews() -> None:
    cache: AgingCache[int] = AgingCache(items_max=2, seconds_max=60)
    for key in ("a", "b", "a", "c"):
        cache.put(key, 1)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 1)


def test_what_is_too_old_is_gone() -> None:
    cache: AgingCache[int] = AgingCache(items_max=3, seconds_max=-1)
    cache.put("a", 1)
    assert cache.get("a") is None
    assert len(cache) == 0

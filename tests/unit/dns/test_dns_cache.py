from mta.dns.cache import TtlCache


def test_a_value_is_returned_until_it_expires_and_not_at_that_moment() -> None:
    cache: TtlCache[str, int] = TtlCache(10)
    cache.put("a", 1, expires=100.0)
    assert cache.get("a", 99.9) == 1
    assert cache.get("a", 100.0) is None


def test_an_expired_value_leaves_the_cache_when_it_is_looked_at() -> None:
    cache: TtlCache[str, int] = TtlCache(10)
    cache.put("a", 1, expires=100.0)
    cache.get("a", 200.0)
    assert len(cache) == 0


def test_a_full_cache_drops_what_was_used_longest_ago() -> None:
    cache: TtlCache[str, int] = TtlCache(2)
    cache.put("a", 1, expires=100.0)
    cache.put("b", 2, expires=100.0)
    cache.get("a", 0.0)
    cache.put("c", 3, expires=100.0)
    assert (cache.get("a", 0.0), cache.get("b", 0.0), cache.get("c", 0.0)) == (1, None, 3)


def test_a_value_put_again_takes_the_place_of_the_old_one() -> None:
    cache: TtlCache[str, int] = TtlCache(2)
    cache.put("a", 1, expires=1.0)
    cache.put("a", 2, expires=100.0)
    assert cache.get("a", 50.0) == 2
    assert len(cache) == 1


def test_one_key_or_everything_can_be_forgotten() -> None:
    cache: TtlCache[str, int] = TtlCache(5)
    for name in "abc":
        cache.put(name, 1, expires=9.0)
    cache.forget("a")
    assert len(cache) == 2
    cache.forget()
    assert len(cache) == 0

"""The caches of results."""

import threading
import unittest

from imgdetect import cache


class CacheContract:
    """Inherited with unittest.TestCase by the tests of each cache that remembers."""

    def create(self):
        raise NotImplementedError

    def setUp(self):
        super().setUp()
        self.cache = self.create()

    def test_what_was_set_comes_back(self):
        self.cache.set("a", b"\x00bytes\xff")
        self.cache.set("b", b"")
        self.assertEqual((self.cache.get("a"), self.cache.get("b"), self.cache.get("c")), (b"\x00bytes\xff", b"", None))

    def test_the_last_value_counts(self):
        self.cache.set("a", b"first")
        self.cache.set("a", b"second")
        self.assertEqual(self.cache.get("a"), b"second")

    def test_a_value_that_is_too_large_is_not_kept_and_no_error(self):
        self.cache.set("a", b"small")
        self.cache.set("a", bytes(300_000_000))
        self.assertIsNone(self.cache.get("a"))  # least of all the value that it replaces
        self.cache.set("a", b"small")
        self.assertEqual(self.cache.get("a"), b"small")

    def test_many_threads_may_use_it_at_once(self):
        wrong = []

        def use(number):
            for turn in range(2000):
                key = f"{(number * 7 + turn) % 50}"
                self.cache.set(key, key.encode() * 2000)
                if self.cache.get(key) not in (None, key.encode() * 2000):
                    wrong.append(key)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


class MemoryCacheTest(CacheContract, unittest.TestCase):
    def create(self):
        return cache.create("memory:")

    def test_its_limits_come_from_the_url(self):
        small = cache.create("memory:?max_bytes=2000&ttl_seconds=3600")
        small.set("a", bytes(1000))
        small.set("b", bytes(1000))
        self.assertEqual((small.get("a"), len(small.get("b"))), (None, 1000))

    def test_the_least_recently_used_go_first(self):
        small = cache.MemoryCache(max_bytes=3 * 2000, ttl_seconds=60)
        for key in "abc":
            small.set(key, bytes(1400))
        small.get("a")
        small.set("d", bytes(1400))
        self.assertEqual([key for key in "abcd" if small.get(key) is not None], ["a", "c", "d"])

    def test_small_values_are_counted_with_their_bookkeeping(self):
        small = cache.MemoryCache(max_bytes=10_000, ttl_seconds=60)
        for number in range(1000):
            small.set(str(number), b"")
        self.assertLess(sum(small.get(str(number)) is not None for number in range(1000)), 20)

    def test_an_entry_is_forgotten_when_it_is_too_old(self):
        now = [0.0]
        aging = cache.MemoryCache(max_bytes=10_000, ttl_seconds=5, timer=lambda: now[0])
        aging.set("a", b"x")
        now[0] = 4.9
        self.assertEqual(aging.get("a"), b"x")
        now[0] = 5.0
        self.assertIsNone(aging.get("a"))

    def test_memory_stays_within_the_limit(self):
        small = cache.MemoryCache(max_bytes=100_000, ttl_seconds=60)
        for number in range(500):
            small.set(str(number), bytes(9_000))
        kept = [number for number in range(500) if small.get(str(number)) is not None]
        self.assertEqual(kept, list(range(490, 500)))


class NoCacheTest(unittest.TestCase):
    def test_it_remembers_nothing(self):
        nothing = cache.create("none:")
        nothing.set("a", b"x")
        self.assertIsNone(nothing.get("a"))


class UrlTest(unittest.TestCase):
    def test_it_refuses_wrong_settings_and_says_what_is_known(self):
        for url, said in (
            ("redix://host", "memory, none"),
            ("memory", "backend URL"),
            ("memory:?size=1", "max_bytes, ttl_seconds"),
            ("memory:x", "no target"),
            ("memory:?max_bytes=0", "positive"),
            ("memory:?max_bytes=1.5", "1.5"),
            ("memory:?ttl_seconds=0", "positive"),
            ("memory:?ttl_seconds=inf", "positive"),
            ("memory:?ttl_seconds=nan", "positive"),
            ("none:x", "no target"),
            ("none:?max_bytes=1", "max_bytes"),
        ):
            with self.subTest(url=url), self.assertRaisesRegex(ValueError, said):
                cache.create(url)


if __name__ == "__main__":
    unittest.main()

"""Detections linked over frames, and what is drawn between looks."""

import unittest

from imgdetect.detection import Box, Detection
from imgdetect.tracks import HIDDEN_MARGIN_LOOKS, MAX_MISSED, Timeline, Tracker


def seen(x, y=100, size=50, class_name="face"):
    return Detection("face", class_name, Box(round(x), round(y), size, size), 1.0, 5)


class TrackerTest(unittest.TestCase):
    def numbers(self, looks, **options):
        tracker = Tracker(**options)
        return [tracker.link(look) for look in looks]

    def test_one_object_that_moves_is_one_track(self):
        self.assertEqual(self.numbers([[seen(10 * n)] for n in range(60)]), [[1]] * 60)

    def test_objects_are_numbered_in_the_order_in_which_they_appear(self):
        looks = [[seen(0)], [seen(2), seen(300)], [seen(302), seen(4), seen(600)]]
        self.assertEqual(self.numbers(looks), [[1], [1, 2], [2, 1, 3]])

    def test_objects_that_cross_keep_their_numbers(self):
        looks = []
        for n in range(41):
            there, back = seen(10 * n, 100), seen(400 - 10 * n, 110)
            looks.append([there, back] if n % 2 else [back, there])
        found = self.numbers(looks)
        self.assertEqual(found[1::2], [found[1]] * 20)
        self.assertEqual([sorted(numbers) for numbers in found], [[1, 2]] * 41)
        self.assertEqual(found[0], found[1][::-1])
        self.assertEqual(found[40], found[0])

    def test_an_object_that_is_missed_for_some_looks_keeps_its_number_though_it_moves_on(self):
        looks = [[seen(8 * n)] if n < 10 or n >= 10 + MAX_MISSED else [] for n in range(40)]
        self.assertEqual({number for numbers in self.numbers(looks) for number in numbers}, {1})

    def test_an_object_that_stays_away_longer_comes_back_as_another(self):
        looks = [[seen(0)], *[[]] * (MAX_MISSED + 1), [seen(0)]]
        self.assertEqual(self.numbers(looks)[-1], [2])

    def test_an_object_that_stops_is_not_lost(self):
        looks = [[seen(20 * min(n, 10))] for n in range(20)]
        self.assertEqual(self.numbers(looks), [[1]] * 20)

    def test_an_object_that_moves_by_its_own_size_from_look_to_look_is_one_track(self):
        self.assertEqual(self.numbers([[seen(50 * n)] for n in range(20)]), [[1]] * 20)

    def test_an_object_that_jumps_away_is_another(self):
        self.assertEqual(self.numbers([[seen(0)], [seen(200)]]), [[1], [2]])

    def test_classes_are_never_mixed(self):
        self.assertEqual(self.numbers([[seen(0)], [seen(0, class_name="cat")], [seen(0)]]), [[1], [2], [1]])

    def test_of_two_detections_the_closer_one_continues_the_track_whatever_their_order(self):
        near, far = seen(5), seen(20)
        self.assertEqual(self.numbers([[seen(0)], [near, far]]), [[1], [1, 2]])
        self.assertEqual(self.numbers([[seen(0)], [far, near]]), [[1], [2, 1]])

    def test_the_same_detections_always_give_the_same_tracks(self):
        looks = [[seen((37 * n * k) % 400, (53 * n + 31 * k) % 300) for k in range(8)] for n in range(50)]
        self.assertEqual(self.numbers(looks), self.numbers(looks))

    def test_nothing_is_kept_of_tracks_that_ended(self):
        tracker = Tracker()
        for n in range(500):
            tracker.link([seen(200 * (n % 7), 200 * (n % 11))])
        self.assertLessEqual(len(tracker._tracks), MAX_MISSED + 1)


class TimelineTest(unittest.TestCase):
    def shown(self, looks, frames, every, hide):
        """The boxes of each frame as (x, width), from looks as {frame: [detections]}; each detection is track 1."""
        timeline = Timeline(every, hide=hide)
        for frame, detections in looks.items():
            timeline.see(frame, [(1, detection) for detection in detections])
        return [[(d.box.x, d.box.width) for d in timeline.shown(frame)] for frame in range(frames)]

    def test_an_outline_moves_evenly_from_look_to_look(self):
        shown = self.shown({0: [seen(0)], 4: [seen(40)]}, 5, every=4, hide=False)
        self.assertEqual(shown, [[(0, 50)], [(10, 50)], [(20, 50)], [(30, 50)], [(40, 50)]])

    def test_an_outline_holds_until_the_look_that_no_longer_sees_it(self):
        shown = self.shown({0: [seen(0)], 4: []}, 6, every=4, hide=False)
        self.assertEqual(shown, [[(0, 50)]] * 4 + [[]] * 2)

    def test_what_is_hidden_between_looks_holds_both_of_them(self):
        shown = self.shown({0: [seen(0)], 4: [seen(40)]}, 5, every=4, hide=True)
        self.assertEqual(shown, [[(0, 50)], *[[(0, 90)]] * 3, [(40, 50)]])

    def test_a_look_that_misses_an_object_between_two_that_see_it_does_not_uncover_it(self):
        for hide in (True, False):
            shown = self.shown({0: [seen(0)], 1: [], 2: [], 3: [seen(30)]}, 4, every=1, hide=hide)
            self.assertTrue(all(shown), shown)

    def test_what_is_hidden_is_hidden_before_and_after_the_looks_that_see_it_where_it_would_move(self):
        shown = self.shown({20: [seen(100)], 24: [seen(140)]}, 60, every=4, hide=True)
        margin = 4 * HIDDEN_MARGIN_LOOKS
        self.assertEqual([n for n, boxes in enumerate(shown) if boxes], [*range(20 - margin, 24 + margin + 1)])
        self.assertEqual(shown[16], [(60, 90)])  # from 100 back to 60
        self.assertEqual(shown[28], [(140, 90)])  # on to 180

    def test_what_was_seen_once_is_hidden_widely_around(self):
        self.assertEqual(self.shown({4: [seen(100)]}, 5, every=4, hide=True)[3], [(75, 100)])

    def test_objects_that_move_evenly_are_hidden_on_every_frame(self):
        for every in (1, 3, 7):
            looks = {n: [seen(6 * n)] for n in range(0, 100, every)}
            for frame, boxes in enumerate(self.shown(looks, 100, every, hide=True)):
                covered = any(x <= 6 * frame and 6 * frame + 50 <= x + width for x, width in boxes)
                self.assertTrue(covered, (every, frame, boxes))

    def test_nothing_is_kept_of_what_is_long_past(self):
        timeline = Timeline(1, hide=True)
        for frame in range(1000):
            timeline.see(frame, [(frame // 20, seen(frame))])
            if frame >= timeline.ahead:
                timeline.shown(frame - timeline.ahead)
        self.assertLessEqual(sum(len(s) for s in timeline._sightings.values()), 3 * timeline.ahead)

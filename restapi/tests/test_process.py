"""POST /api/v1/process: pictures changed as the client asks."""

import base64
import unittest
from io import BytesIO

import cv2
import numpy as np
from werkzeug.datastructures import FileStorage

from tests.app import AppTest, astronaut, jpeg

PATH = "/api/v1/process"


def quarters():
    """A picture of four flat quarters: blue, green, red and white, clockwise from the top left."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30], image[:20, 30:] = (255, 0, 0), (0, 255, 0)
    image[20:, 30:], image[20:, :30] = (0, 0, 255), (255, 255, 255)
    return image


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


class ProcessTest(AppTest):
    settings = {"max_pixels": 1_000_000}

    def send(self, data=None, **asked):
        form = {"image": FileStorage(BytesIO(data or png(quarters())), "a.png")} | asked
        return self.post_form(PATH, form)

    def made(self, data=None, **asked):
        answer = self.send(data, **({"format": "png"} | asked))
        self.assertEqual(answer.status_code, 200, answer.data[:300])
        return cv2.imdecode(np.frombuffer(answer.data, np.uint8), cv2.IMREAD_UNCHANGED)

    def refused(self, field, **asked):
        problem = self.assertProblem(self.send(**asked), 400, "invalid-request")
        self.assertIn(field, {error["field"] for error in problem["errors"]})
        return problem

    def test_what_is_asked_for_nothing_comes_back_as_it_was(self):
        np.testing.assert_array_equal(self.made(), quarters())

    def test_it_is_scaled_by_size_or_factor(self):
        for asked, shape in (
            ({"width": 30}, (20, 30)),
            ({"height": 20}, (20, 30)),
            ({"width": 7, "height": 9}, (9, 7)),
            ({"scale": 0.5}, (20, 30)),
            ({"scale": 2}, (80, 120)),
            ({"width": 1}, (1, 1)),
        ):
            with self.subTest(asked=asked):
                self.assertEqual(self.made(**asked).shape[:2], shape)
        np.testing.assert_array_equal(self.made(scale=0.5)[5, 5], (255, 0, 0))

    def test_quarter_turns_flips_and_cuts_are_exact(self):
        image = quarters()
        for asked, expected in (
            ({"rotate": 90}, np.rot90(image, -1)),
            ({"rotate": 180}, np.rot90(image, 2)),
            ({"rotate": -90}, np.rot90(image, 1)),
            ({"rotate": 360}, image),
            ({"flip": "horizontal"}, image[:, ::-1]),
            ({"flip": "vertical"}, image[::-1]),
            ({"flip": "both"}, image[::-1, ::-1]),
            ({"crop": "25,10,20,15"}, image[10:25, 25:45]),
            ({"crop": "0,0,30,20", "rotate": 90}, np.rot90(image[:20, :30], -1)),
        ):
            with self.subTest(asked=asked):
                np.testing.assert_array_equal(self.made(**asked), expected)

    def test_other_turns_keep_the_whole_picture_on_a_larger_canvas(self):
        turned = self.made(rotate=45)
        self.assertEqual(turned.shape, (71, 71, 3))
        for (x, y), colour in (((35, 10), (255, 0, 0)), ((55, 35), (0, 255, 0)), ((15, 35), (255, 255, 255))):
            np.testing.assert_array_equal(turned[y + 5, x], colour)
        np.testing.assert_array_equal(turned[0, 0], (0, 0, 0))

    def test_it_is_blurred_and_made_grey(self):
        sharp, blurred = quarters().astype(int), self.made(blur=5).astype(int)
        self.assertLess(np.abs(np.diff(blurred, axis=1)).max(), np.abs(np.diff(sharp, axis=1)).max() / 2)
        grey = self.made(grey="true")
        self.assertTrue((grey[..., 0] == grey[..., 1]).all() and (grey[..., 1] == grey[..., 2]).all())

    def test_format_and_quality_are_chosen(self):
        for form, magic in (("jpeg", b"\xff\xd8\xff"), ("png", b"\x89PNG"), ("webp", b"RIFF")):
            answer = self.send(format=form)
            self.assertEqual((answer.mimetype, answer.data[: len(magic)]), (f"image/{form}", magic))
        sizes = [len(self.send(astronaut(), format="jpeg", quality=q).data) for q in (10, 50, 95)]
        self.assertEqual(sizes, sorted(sizes))
        answer = self.client.post(PATH, data=astronaut(), content_type="image/jpeg", headers={"Accept": "image/webp"})
        self.assertEqual(answer.mimetype, "image/webp")

    def test_json_is_taken_too(self):
        body = {"image_base64": base64.b64encode(png(quarters())).decode(), "crop": [0, 0, 30, 20], "format": "png"}
        answer = self.client.post(PATH, json=body)
        self.assertEqual(cv2.imdecode(np.frombuffer(answer.data, np.uint8), 1).shape, (20, 30, 3))

    def test_wrong_parameters_are_refused_all_at_once(self):
        problem = self.refused("rotate", rotate="much", flip="sideways", quality=0, colour="red")
        self.assertEqual({e["field"] for e in problem["errors"]}, {"rotate", "flip", "quality", "colour"})
        self.refused("crop", crop="50,0,11,10")
        self.refused("crop", crop="0,0,0,10")
        self.refused("parameters", scale=2, width=10)
        self.refused("quality", format="png", quality=50)
        self.refused("blur", blur=101)

    def test_no_picture_that_is_too_large_is_begun(self):
        self.refused("scale", scale=30)
        self.refused("width", width=16_384, height=100)
        self.refused("width", width=16_384)
        self.refused("rotate", width=1000, height=1000, rotate=45)
        self.refused("width", width=16_384, height=1, format="webp")
        self.assertEqual(self.made(width=16_384, height=1).shape[:2], (1, 16_384))

    def test_what_is_no_picture_is_refused(self):
        self.assertProblem(self.send(b"text"), 415, "unsupported-image")
        self.assertProblem(self.send(jpeg()[:-200]), 422, "unreadable-image")
        self.assertProblem(self.client.post(PATH, data={}), 400, "invalid-request")


if __name__ == "__main__":
    unittest.main()

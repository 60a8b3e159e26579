"""`fasthaar samples`: label files, cutting, rendering, mining, and what is refused."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
from PIL import Image

from commands import run
from fasthaar.workshop.annotations import read_annotations
from fasthaar.workshop.sample_files import read_samples
from fasthaar.workshop.templates import TemplateRenderer, read_template

VOC = """<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}</height></size>
<object><name>dot</name><difficult>{difficult}</difficult><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax>
<ymax>40</ymax></bndbox></object><object><name>other</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>8</xmax>
<ymax>8</ymax></bndbox></object></annotation>"""


class SamplesCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def picture(self, name="a.png", size_wh=(80, 60), dot=(10, 20, 20, 20)):
        """A dark picture with a bright dot in this box."""
        pixels = np.full(size_wh[::-1], 40, np.uint8)
        pixels[dot[1] : dot[1] + dot[3], dot[0] : dot[0] + dot[2]] = 200
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).save(path)
        return path

    def info(self, text="a.png 1 10 20 20 20\n"):
        self.picture()
        path = self.folder / "info.dat"
        path.write_text(text)
        return path

    def assert_refused(self, expected, *arguments):
        before = sorted(self.folder.rglob("*"))
        code, _, error = run("samples", *arguments)
        self.assertEqual(code, 2, error)
        self.assertRegex(error, expected)
        self.assertEqual(error.count("\n"), 1)
        self.assertEqual(sorted(self.folder.rglob("*")), before)


class LabelFilesTest(SamplesCase):
    def boxes(self, source, **asked):
        return [(one.path.name, one.boxes.round(3).tolist()) for one in read_annotations(source, **asked)]

    def test_coco(self):
        self.picture("pics/a.png")
        self.picture("pics/b.png")
        data = {
            "images": [{"id": 5, "file_name": "a.png", "width": 80, "height": 60}, {"id": 6, "file_name": "b.png"}],
            "annotations": [
                {"image_id": 5, "category_id": 1, "bbox": [10, 20, 20, 20]},
                {"image_id": 5, "category_id": 2, "bbox": [0, 0, 8, 8]},
                {"image_id": 5, "category_id": 1, "bbox": [40, 20, 20, 20], "iscrowd": 1},
            ],
            "categories": [{"id": 1, "name": "dot"}, {"id": 2, "name": "other"}],
        }
        path = self.folder / "labels.json"
        path.write_text(json.dumps(data))
        (a, b) = read_annotations(path, self.folder / "pics", ["dot"])
        self.assertEqual(a.boxes.tolist(), [[10, 20, 20, 20], [40, 20, 20, 20]])
        self.assertEqual(a.ignored.tolist(), [False, True])
        self.assertEqual(len(b.boxes), 0)
        self.assertEqual(len(read_annotations(path, self.folder / "pics", ["2"])[0].boxes), 1)

    def test_voc(self):
        self.picture()
        (self.folder / "a.xml").write_text(VOC.format(name="a.png", width=80, height=60, difficult=1))
        (one,) = read_annotations(self.folder)
        self.assertEqual(one.boxes.tolist(), [[10, 20, 20, 20], [0, 0, 8, 8]])
        self.assertEqual(one.ignored.tolist(), [True, False])
        self.assertEqual(self.boxes(self.folder / "a.xml", classes=["dot"]), [("a.png", [[10, 20, 20, 20]])])

    def test_voc_with_entities_is_refused(self):
        self.picture()
        bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
        (self.folder / "a.xml").write_text(bomb + VOC.format(name="&f;", width=80, height=60, difficult=0))
        self.assert_refused("document type declaration", "crop", self.folder, self.folder / "x.npz")

    def test_yolo(self):
        self.picture("images/a.png")
        self.picture("images/b.png")
        (self.folder / "labels").mkdir()
        (self.folder / "classes.txt").write_text("pole\ndot\n")
        outline = "1 0.125 0.3333333 0.375 0.3333333 0.375 0.6666667 0.125 0.6666667"
        (self.folder / "labels/a.txt").write_text(f"1 0.25 0.5 0.25 0.3333333\n{outline}\n0 0.5 0.5 0.1 0.1\n")
        two = [[10, 20, 20, 20], [10, 20, 20, 20]]
        self.assertEqual(self.boxes(self.folder, classes=["dot"]), [("a.png", two), ("b.png", [])])
        self.assertEqual(self.boxes(self.folder / "labels", classes=["1"]), [("a.png", two), ("b.png", [])])

    def test_opencvs_list_with_spaces_in_names(self):
        self.picture("a 2 b.png")
        text = "a.png  2  10 20 20 20  0 0 8 8\na 2 b.png 1 10 20 20 20\n"
        expected = [("a 2 b.png", [[10, 20, 20, 20]]), ("a.png", [[10, 20, 20, 20], [0, 0, 8, 8]])]
        self.assertEqual(self.boxes(self.info(text)), expected)

    def test_boxes_are_those_of_the_upright_picture(self):
        self.picture("flat.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(self.folder / "flat.png") as flat:
            flat.save(self.folder / "turned.jpg", exif=exif, quality=95)
        (self.folder / "l.txt").write_text("turned.jpg 1 20 10 20 20\n")  # 80x60 becomes 60x80
        self.assertEqual(
            run("samples", "crop", self.folder / "l.txt", self.folder / "x.npz", "--size", "16x16", "--margin", 0)[0], 0
        )
        self.assertGreater(read_samples(self.folder / "x.npz").min(), 150)

    def test_what_is_wrong_in_a_file_is_named_with_its_place(self):
        for text, expected in (
            ("a.png 1 10 20 20\n", "line 1: should be picture count"),
            ("\na.png 1 10 20 x 20\n", "line 2: a box should be four numbers"),
            (
                "a.png 1 70 20 20 20\n",
                r"line 1: the box \(70, 20, 20, 20\) reaches out of the picture, which has 80x60",
            ),
            ("a.png 1 10 20 0 20\n", "has no area"),
            ("b.png 1 10 20 20 20\n", "there is no picture .*b.png"),
            ("a.png 0\n", "no objects"),
            ("", "no labels"),
        ):
            with self.subTest(text=text):
                self.assert_refused(expected, "crop", self.info(text), self.folder / "x.npz")

    def test_clip_cuts_boxes_and_drops_those_outside(self):
        source = self.info("a.png 2 70 20 20 20 90 90 5 5\n")
        self.assertEqual(self.boxes(source, clip=True), [("a.png", [[70, 20, 10, 20]])])

    def test_labels_for_a_picture_of_another_size_are_refused(self):
        self.picture()
        (self.folder / "a.xml").write_text(VOC.format(name="a.png", width=160, height=120, difficult=0))
        self.assert_refused(
            "for a picture of 160x120 pixels, but .* has 80x60", "crop", self.folder, self.folder / "x.npz"
        )

    def test_no_form_of_labels_is_taken_for_another(self):
        self.picture("images/a.png")
        (self.folder / "labels").mkdir()
        for name, text, expected in (
            ("x.json", "[1]", "no COCO file"),
            ("x.json", '{"images": [], "annotations": [{"image_id": 1}]}', "annotation 0 is for a picture"),
            ("x.xml", "<annotation>", "no XML"),
            ("x.xml", "<a/>", "no VOC file"),
            ("x.csv", "", "should be COCO"),
            ("labels/a.txt", "1 10 20 20 20", "line 1: should be class x y width height, in parts"),
            ("labels/a.txt", "dot 0.1 0.1 0.1 0.1", "line 1: should be class"),
            ("labels/b.txt", "0 0.5 0.5 0.1 0.1", "no picture b in"),
        ):
            with self.subTest(name=name, text=text):
                path = self.folder / name
                path.write_text(text)
                self.assert_refused(
                    expected, "crop", path.parent if path.suffix == ".txt" else path, self.folder / "x.npz"
                )
                path.unlink()


class CropTest(SamplesCase):
    def test_samples_are_the_boxes_in_either_form(self):
        for name in ("x.npz", "x.vec"):
            out = self.folder / name
            self.assertEqual(run("samples", "crop", self.info(), out, "--size", "10x10", "--margin", 0)[0], 0)
            np.testing.assert_array_equal(read_samples(out), np.full((1, 10, 10), 200))

    def test_vec_is_laid_out_as_by_opencv_createsamples(self):
        out = self.folder / "x.vec"
        run("samples", "crop", self.info(), out, "--size", "8x10", "--margin", 0)
        data = out.read_bytes()
        self.assertEqual(np.frombuffer(data, "<i4", 2).tolist(), [1, 80])
        self.assertEqual((data[8:13], len(data)), (bytes(5), 12 + 1 + 160))
        self.assertEqual(set(np.frombuffer(data, "<i2", offset=13).tolist()), {40, 200})
        self.assertEqual(read_samples(out, (8, 10)).shape, (1, 10, 8))

    def test_copies_are_jittered_and_mirrored_but_the_first(self):
        out = self.folder / "x.npz"
        run(
            "samples",
            "crop",
            self.info(),
            out,
            "--copies",
            4,
            "--jitter",
            0.1,
            "--mirror",
            "--margin",
            0.2,
            "--size",
            "20x20",
        )
        found = read_samples(out)
        self.assertEqual(len(found), 4)
        np.testing.assert_array_equal(found[0], found[0, ::-1, ::-1])
        self.assertEqual(len({sample.tobytes() for sample in found}), 4)

    def test_samples_in_a_file_are_resized(self):
        run("samples", "crop", self.info(), self.folder / "x.vec", "--size", "20x20", "--margin", 0)
        code, said, _ = run("samples", "crop", self.folder / "x.vec", self.folder / "y.npz", "--size", "10x10")
        self.assertEqual((code, "1 samples of 10x10" in said), (0, True))
        np.testing.assert_array_equal(read_samples(self.folder / "y.npz"), 200)
        self.assert_refused(
            "window of 24x24 is larger than its 20x20", "crop", self.folder / "x.vec", self.folder / "z.npz"
        )

    def test_a_window_larger_than_every_object_is_refused_and_some_are_counted(self):
        self.assert_refused(
            "larger than all objects, of 20 pixels", "crop", self.info(), self.folder / "x.npz", "--size", "64x64"
        )
        source = self.info("a.png 2 10 20 20 20 0 0 8 8\n")
        code, said, _ = run("samples", "crop", source, self.folder / "x.npz", "--size", "12x12")
        self.assertEqual(code, 0)
        self.assertIn("1 of 2 samples were enlarged", said)

    def test_unreadable_pictures_are_named(self):
        source = self.info()
        for content in (b"", b"no picture", (self.folder / "a.png").read_bytes()[:90]):
            (self.folder / "a.png").write_bytes(content)
            self.assert_refused("a.png: this is no picture that can be read", "crop", source, self.folder / "x.npz")

    def test_damaged_sample_files_are_refused(self):
        vec, npz = self.folder / "x.vec", self.folder / "x.npz"
        run("samples", "crop", self.info(), vec, "--size", "16x16")
        np.savez(npz, samples=np.zeros((2, 3)))
        np.savez(self.folder / "y.npz", other=np.zeros(2))
        vec.write_bytes(vec.read_bytes()[:-1])
        (self.folder / "z.npz").write_bytes(b"PK")
        for name, expected in (
            ("x.vec", "no complete"),
            ("x.npz", "float64"),
            ("y.npz", "no array"),
            ("z.npz", "no .npz"),
        ):
            self.assert_refused(expected, "crop", self.folder / name, self.folder / "out.npz")

    def test_nothing_is_left_when_the_disk_is_full(self):
        """A limit on the size of files stands for the disk: writing fails in the middle in the same way."""
        source, out = self.info(), self.folder / "x.vec"
        out.write_bytes(b"before")
        program = "import sys; from fasthaar.workshop import main; sys.exit(main())"
        command = [sys.executable, "-c", program, "samples", "crop", source, out, "--copies", "12", "--size", "16x16"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        )
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("x.vec", done.stderr)
        self.assertEqual(out.read_bytes(), b"before")
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"a.png", "info.dat", "x.vec"})


class RenderTest(SamplesCase):
    def template(self, name="t.png", background=(0, 0, 0, 0)):
        pixels = np.full((40, 60, 4), background, np.uint8)
        pixels[5:35, 10:50] = (250, 250, 250, 255)
        pixels[15:25, 20:40, :3] = 10
        Image.fromarray(pixels).save(self.folder / name)
        return self.folder / name

    def test_files_do_not_depend_on_the_number_of_processes(self):
        files = []
        for processes in (1, 2):
            out = self.folder / f"{processes}.npz"
            asked = ("--recipe", "stop-sign", "--count", 12, "--seed", 3, "--processes", processes)
            self.assertEqual(run("samples", "render", out, *asked)[0], 0)
            files.append(out.read_bytes())
        self.assertEqual(files[0], files[1])
        run("samples", "render", self.folder / "3.npz", "--recipe", "stop-sign", "--count", 12, "--processes", 1)
        self.assertNotEqual((self.folder / "3.npz").read_bytes(), files[0])

    def test_a_template_is_cut_out_by_its_transparency_or_by_a_colour(self):
        clear = read_template(self.template())
        green = read_template(self.template("g.png", (0, 255, 0, 255)), (0, 255, 0))
        for template in (clear, green):
            self.assertEqual((template.levels.shape, template.alpha.min()), ((30, 40), 1))
        whole = read_template(self.folder / "g.png")
        self.assertEqual(whole.levels.shape, (40, 60))

    def test_the_box_of_a_rendered_template_is_where_it_is(self):
        flat = np.full((90, 90), 60, np.uint8)
        renderer = TemplateRenderer([read_template(self.template())], 1, [flat], turns=(0, 0, 0), smallest_px=40)
        for number in range(8):
            picture, (x, y, width, height) = renderer.sample(number)
            side = picture.shape[0]
            self.assertAlmostEqual(x + width / 2, side / 2, delta=1)
            self.assertAlmostEqual(y + height / 2, side / 2, delta=1)
            self.assertAlmostEqual(width / height, 4 / 3, delta=0.02)
            self.assertAlmostEqual(width, side / 2, delta=2)

    def test_samples_and_a_sheet_are_written(self):
        sheet = self.folder / "sheet.png"
        asked = ("--template", self.template(), "--size", "32x24", "--count", 5, "--sheet", sheet, "--processes", 1)
        self.assertEqual(run("samples", "render", self.folder / "x.vec", *asked)[0], 0)
        self.assertEqual(read_samples(self.folder / "x.vec", (32, 24)).shape, (5, 24, 32))
        with Image.open(sheet) as shown:
            self.assertEqual(shown.size, (5 * 65, 49))
        self.assertEqual(run("samples", "show", self.folder / "x.vec", sheet, "--size", "32x24")[0], 0)

    def test_scenes_have_the_same_labels_in_both_forms(self):
        read = []
        for form in ("yolo", "coco"):
            out = self.folder / form
            asked = (
                "--recipe",
                "stop-sign",
                "--count",
                3,
                "--scene-size",
                "200x150",
                "--format",
                form,
                "--processes",
                1,
            )
            self.assertEqual(run("samples", "scenes", out, *asked)[0], 0)
            read.append(read_annotations(out if form == "yolo" else out / "annotations.json"))
        for yolo, coco in zip(*read, strict=True):
            np.testing.assert_allclose(yolo.boxes, coco.boxes, atol=0.02)
            self.assertEqual(yolo.path.read_bytes(), coco.path.read_bytes())

    def test_what_cannot_be_rendered_is_refused(self):
        out = self.folder / "x.npz"
        template = self.template()
        Image.new("RGBA", (20, 20)).save(self.folder / "clear.png")
        (self.folder / "empty").mkdir()
        for expected, *arguments in (
            ("either a recipe", "render", out),
            ("either a recipe", "render", out, "--recipe", "stop-sign", "--template", template),
            ("no recipe 'zebra'; should be one of stop-sign", "render", out, "--recipe", "zebra"),
            ("8x8 pixels at least", "render", out, "--template", self.folder / "clear.png"),
            ("no pictures", "render", out, "--template", template, "--backgrounds", self.folder / "empty"),
            ("written as .npz or .vec", "render", self.folder / "x.png", "--template", template),
            ("no folder", "render", self.folder / "no/x.npz", "--template", template),
            ("already", "scenes", self.folder, "--template", template),
        ):
            with self.subTest(expected):
                self.assert_refused(expected, *arguments)


class NegativesTest(SamplesCase):
    def test_no_part_touches_a_labelled_object(self):
        for number in range(6):
            x = 5 + 9 * number
            self.picture(f"{number}.png", dot=(x, 20, 20, 20))
        text = "".join(f"{number}.png 1 {5 + 9 * number} 20 20 20\n" for number in range(6))
        source = self.info(text)
        out = self.folder / "out"
        code, said, _ = run(
            "samples", "negatives", out, "--from", source, "--count", 12, "--size", "12x12", "--processes", 1
        )
        self.assertEqual((code, "12 pictures" in said), (0, True))
        parts = sorted(out.iterdir())
        self.assertEqual(len(parts), 12)
        for path in parts:
            with Image.open(path) as part:
                self.assertEqual(part.getextrema(), (40, 40))
                self.assertGreaterEqual(min(part.size), 12)
        windows = self.folder / "w.npz"
        asked = ("--from", source, "--count", 20, "--size", "12x12", "--processes", 1)
        self.assertEqual(run("samples", "negatives", windows, *asked)[0], 0)
        np.testing.assert_array_equal(read_samples(windows), np.full((20, 12, 12), 40))

    def test_pictures_without_labels_are_taken_whole(self):
        path = self.picture("pics/a.png")
        run("samples", "negatives", self.folder / "out", "--from", path.parent, "--count", 2, "--processes", 1)
        with Image.open(path) as whole, Image.open(self.folder / "out/000001.png") as part:
            self.assertEqual(part.tobytes(), whole.tobytes())

    def test_no_room_beside_objects_is_refused_and_leaves_no_folder(self):
        source = self.info("a.png 1 0 0 80 60\n")
        self.assert_refused(
            "leave no part of 24x24", "negatives", self.folder / "out", "--from", source, "--processes", 1
        )

    def test_something_to_make_negatives_of_has_to_be_named(self):
        self.assert_refused("name either", "negatives", self.folder / "out")
        self.assert_refused(
            "name either", "negatives", self.folder / "out", "--from", self.info(), "--recipe", "stop-sign"
        )

    def test_negatives_are_rendered_as_well(self):
        out = self.folder / "out"
        asked = ("--recipe", "stop-sign", "--count", 2, "--scene-size", "120x90", "--processes", 1)
        self.assertEqual(run("samples", "negatives", out, *asked)[0], 0)
        for path in sorted(out.iterdir()):
            with Image.open(path) as picture:
                self.assertEqual(picture.size, (120, 90))


if __name__ == "__main__":
    unittest.main()

"""The build: which compiler is taken, what the wheel holds, and what is said when it cannot be made."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import unittest
import zipfile
from pathlib import Path
from unittest import mock

import elf
import hatch_build
from hatch_build import BuildError, Compiler, Machine, NoCompilerError

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "src", "fasthaar")
ZIG = (sys.executable, "-m", "ziglang", "c++", "-target")
ANY_MACHINE = Machine("other", (), {})
NO_ZIG = "import sys; sys.modules['ziglang'] = None\n"


def api() -> set[str]:
    """The functions that fasthaar.h declares."""
    header = (ROOT / "src" / "fasthaar.h").read_text("utf-8")
    return set(re.findall(r"^FH_API [^(]*\b(fh_\w+)\(", header, re.MULTILINE))


def run(folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with this process's environment and more."""
    env = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def build(folder: Path, what: str) -> Path:
    """Call hatchling as an installer does, in a process of its own."""
    done = run(folder, f"import hatchling.build as b; print(b.build_{what}('dist'))")
    if done.returncode:
        raise AssertionError(done.stderr)
    return folder / "dist" / done.stdout.splitlines()[-1]


class FolderTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def project(self, source: str) -> Path:
        """A copy of the project whose only C++ is `source`."""
        copy = self.folder / "project"
        copy.mkdir()
        for name in PROJECT:
            if name != "src":
                here = ROOT / name
                (shutil.copytree if here.is_dir() else shutil.copy)(here, copy / name)
        (copy / hatch_build.LIBRARY).unlink(missing_ok=True)
        (copy / "src").mkdir()
        for name in (name for machine in hatch_build.MACHINES.values() for name in machine.kernels):
            (copy / "src" / f"kernel_{name}.cpp").touch()
        (copy / "src" / "one.cpp").write_text(source, "utf-8")
        return copy


class WheelTest(unittest.TestCase):
    """A wheel that is built from an unpacked source distribution, with the compiler that this machine has."""

    source: set[str]
    name: str
    files: set[str]
    built_in: Path
    place: Path
    library: Path
    elf: elf.Elf

    @classmethod
    def setUpClass(cls) -> None:
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        tree = folder / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("__pycache__", "dist", "*.so", "photographs"))
        with tarfile.open(build(tree, "sdist")) as archive:
            # Later versions of Python warn where no filter is named, earlier ones know none.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(folder)
        source = next(folder.glob("fasthaar-*"))
        cls.source = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
        wheel = build(source, "wheel")
        cls.name = wheel.name
        cls.built_in = folder
        cls.place = folder / "installed"
        with zipfile.ZipFile(wheel) as archive:
            cls.files = set(archive.namelist())
            archive.extractall(cls.place)
        cls.library = cls.place / hatch_build.LIBRARY
        cls.elf = elf.read(cls.library)

    def test_the_source_distribution_holds_all_sources_and_nothing_compiled(self) -> None:
        wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "src").iterdir()} | {"hatch_build.py", "LICENSE"}
        self.assertLessEqual(wanted, self.source)
        self.assertEqual([name for name in self.source if name.endswith((".so", ".pyc"))], [])

    def test_it_holds_the_package_the_library_and_the_licence(self) -> None:
        package = {
            str(path.relative_to(ROOT)) for path in (ROOT / "fasthaar").rglob("*.*") if path.suffix in {".py", ".typed"}
        }
        about = {name for name in self.files if ".dist-info/" in name}
        self.assertEqual(self.files - about, package | {hatch_build.LIBRARY})
        self.assertTrue(any(name.endswith("licenses/LICENSE") for name in about))

    def test_one_wheel_serves_every_python(self) -> None:
        self.assertRegex(self.name, r"^fasthaar-[\d.]+-py3-none-(manylinux|linux)_\w+\.whl$")

    def test_its_name_promises_no_older_glibc_than_the_library_needs(self) -> None:
        promised = re.search(r"manylinux_(\d+)_(\d+)", self.name)
        needed = [tuple(map(int, name[6:].split("."))) for name in self.elf.versions if name.startswith("GLIBC_")]
        self.assertTrue(needed)
        if promised:
            self.assertEqual(tuple(map(int, promised.groups())), max(hatch_build.GLIBC, *needed))

    def test_the_library_needs_the_c_library_only(self) -> None:
        self.assertLessEqual(self.elf.needed, {"libc.so.6", "libm.so.6", "libpthread.so.0"})

    def test_the_library_offers_its_api_only(self) -> None:
        self.assertEqual(self.elf.exported, api())

    def test_the_library_names_no_folder_of_the_machine_that_built_it(self) -> None:
        self.assertNotIn(str(self.built_in).encode(), self.library.read_bytes())

    def test_it_can_be_imported(self) -> None:
        done = run(
            self.place, "import fasthaar; print(fasthaar.__file__, fasthaar.target())", PYTHONPATH=str(self.place)
        )
        self.assertIn(str(self.place), done.stdout, done.stderr)


class EditableTest(FolderTest):
    def test_the_library_is_put_into_the_source_tree(self) -> None:
        copy = self.project('extern "C" __attribute__((visibility("default"))) int fh_one() { return 1; }')
        wheel = build(copy, "editable")
        self.assertEqual(ctypes.CDLL(str(copy / hatch_build.LIBRARY)).fh_one(), 1)
        with zipfile.ZipFile(wheel) as archive:
            (path,) = (name for name in archive.namelist() if name.endswith(".pth"))
            self.assertEqual(Path(archive.read(path).decode().strip()).resolve(), copy.resolve())


@unittest.skipUnless(importlib.util.find_spec("ziglang"), "only ziglang compiles for other machines")
class MachinesTest(FolderTest):
    """What is compiled for other machines; it cannot run here."""

    def test_all_but_the_vector_kernels_compile_for_a_processor_that_has_none(self) -> None:
        compiler = Compiler((*ZIG, "riscv64-linux-gnu"), ANY_MACHINE)
        sources = [path.name for path in (ROOT / "src").glob("*.cpp") if not path.name.startswith("kernel_")]
        for name in (*sources, hatch_build.SCALAR):
            made = str(self.folder / f"{name}.o")
            hatch_build.call(compiler.command, (*compiler.flags, "-c", name, "-o", made), ROOT / "src")

    def test_zig_builds_for_an_old_glibc_on_every_machine_with_vector_kernels(self) -> None:
        for machine in hatch_build.MACHINES.values():
            with self.subTest(machine.name):
                compiler = hatch_build.try_out((*ZIG, f"{machine.name}-linux-gnu.2.17"))
                self.assertEqual(compiler.machine, machine)
                library = self.folder / f"{machine.name}.so"
                hatch_build.compile_library(compiler, library)
                self.assertEqual(elf.read(library).exported, api())
                self.assertEqual(hatch_build.platform_tag(library, machine), f"manylinux_2_17_{machine.name}")


class CompilerTest(unittest.TestCase):
    """Which compiler is taken; none is called here."""

    def setUp(self) -> None:
        self.enterContext(mock.patch.dict(os.environ, {"CXX": ""}))
        self.there = {"g++", "c++", "clang++"}
        self.broken: set[str] = set()
        self.zig = True
        self.enterContext(mock.patch.object(shutil, "which", lambda name: name if name in self.there else None))
        self.enterContext(mock.patch.object(importlib.util, "find_spec", lambda name: self.zig or None))
        self.enterContext(mock.patch.object(hatch_build, "try_out", self.try_out))

    def try_out(self, command: tuple[str, ...]) -> Compiler:
        if command[0] in self.broken:
            raise BuildError("no such header")
        return Compiler(command, ANY_MACHINE)

    def test_the_one_that_cxx_names_goes_before_all_others(self) -> None:
        with mock.patch.dict(os.environ, {"CXX": "ccache 'my g++' -m64"}):
            self.assertEqual(hatch_build.find_compiler().command, ("ccache", "my g++", "-m64"))

    def test_one_that_cxx_names_and_that_does_not_work_is_an_error(self) -> None:
        self.broken = {"g++-99"}
        with mock.patch.dict(os.environ, {"CXX": "g++-99"}), self.assertRaises(BuildError) as caught:
            hatch_build.find_compiler()
        self.assertNotIsInstance(caught.exception, NoCompilerError)
        self.assertEqual(str(caught.exception), "no such header\nthe compiler that CXX names does not work: g++-99")

    def test_one_that_does_not_work_is_passed_over(self) -> None:
        self.broken = {"g++"}
        self.assertEqual(hatch_build.find_compiler().command, ("c++",))

    def test_zig_is_taken_where_there_is_no_other(self) -> None:
        self.there = set()
        self.assertEqual(hatch_build.find_compiler().command[:4], (sys.executable, "-m", "ziglang", "c++"))

    def test_without_any_it_says_what_to_do(self) -> None:
        self.there, self.zig = set(), False
        with self.assertRaisesRegex(NoCompilerError, "^no C.. compiler: install g.. or .*ziglang.*, or set CXX$"):
            hatch_build.find_compiler()

    def test_other_systems_than_linux_are_refused(self) -> None:
        for system in ("darwin", "win32"):
            with (
                mock.patch.object(sys, "platform", system),
                self.assertRaisesRegex(BuildError, f"Linux only.*{system}"),
            ):
                hatch_build.find_compiler()


class FailureTest(FolderTest):
    """What somebody reads who installs it."""

    def test_zig_is_asked_for_only_where_there_is_no_compiler(self) -> None:
        copy = self.project("")
        code = NO_ZIG + "import hatchling.build as b; print(b.get_requires_for_build_wheel())"
        self.assertEqual(run(copy, code, PATH="", CXX="").stdout, f"['{hatch_build.ZIG}']\n")
        here = shutil.which(hatch_build.find_compiler().command[0])
        if not hatch_build.find_compiler().is_zig:
            self.assertEqual(run(copy, code, CXX=str(here)).stdout, "[]\n")

    def test_the_same_zig_is_locked(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        self.assertIn(hatch_build.ZIG, project["dependency-groups"]["build"])
        self.assertIn(hatch_build.ZIG.rstrip("*"), (ROOT / "requirements-build.lock").read_text("utf-8"))

    def test_no_compiler_is_one_line(self) -> None:
        done = run(self.project(""), NO_ZIG + "import hatchling.build as b; b.build_wheel('dist')", PATH="", CXX="")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Afasthaar: no C\+\+ compiler: [^\n]+\n\Z")

    def test_a_source_that_does_not_compile_shows_what_the_compiler_says(self) -> None:
        done = run(self.project("int broken( { return 1; }"), "import hatchling.build as b; b.build_wheel('dist')")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"one\.cpp:1:\d+: error: ")
        self.assertNotIn("Traceback", done.stderr)
        self.assertIn("ended with 1", done.stderr.splitlines()[-1])

    def test_a_function_that_is_nowhere_is_found_when_it_is_built(self) -> None:
        done = run(
            self.project('extern "C" int gone(); int f() { return gone(); }'),
            "import hatchling.build as b; b.build_wheel('dist')",
        )
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "undefined (reference|symbol).*gone")


if __name__ == "__main__":
    unittest.main()

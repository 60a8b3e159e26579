"""Compiles src/ into one shared library while hatchling makes a wheel or an editable installation.

The library has a C ABI and is loaded with ctypes, so it depends on no Python, and links neither libstdc++ nor libc++.
The compiler is $CXX; without it the first of g++, c++ and clang++ that works; else the one in the package ziglang.

`python hatch_build.py` prints the compiler that would be used. It ends with 1 where there is none, which ziglang would
change, and with 2 where fasthaar cannot be built.
"""

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig

ROOT = Path(__file__).resolve().parent
LIBRARY = "fasthaar/_fasthaar.so"
SCALAR = "kernel_scalar.cpp"
ZIG = "ziglang==0.17.*"
# The oldest glibc that is built for, and that a wheel names.
GLIBC = (2, 17)

# No fast math and no contraction to fused multiply-add, and integers wrap around: the answers are OpenCV's to the last
# bit. No C++ headers: without them the sources compile in seconds, and nothing of a C++ library can slip in.
FLAGS = (
    *("-std=c++17", "-O3", "-g0", "-fPIC", "-pthread", "-ffp-contract=off", "-fwrapv", "-Wall"),
    *("-Wextra", "-nostdinc++", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fvisibility=hidden"),
)
PROBE = """
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
extern "C" int probe(pthread_t *thread, void *(*run)(void *), float x)
{
    return pthread_create(thread, nullptr, run, malloc(size_t(sqrtf(x))));
}
"""


class Machine(NamedTuple):
    """What is compiled for one kind of processor.

    Args:
        name: as in the tag of a wheel
        baseline: flags for the least that a processor of this kind has, so that the library runs on all of them
        kernels: name of each vector kernel and the flags that its source `kernel_NAME.cpp` needs beyond that
    """

    name: str
    baseline: tuple[str, ...]
    kernels: dict[str, tuple[str, ...]]


AVX512 = (
    *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"),
    # gcc 12 takes its own headers' undefined vectors for mistakes; clang does not know the warning.
    *("-Wno-unknown-warning-option", "-Wno-maybe-uninitialized"),
)
# By the machine number in the header of an ELF file.
MACHINES = {
    62: Machine("x86_64", ("-march=x86-64",), {"sse4": ("-mssse3", "-msse4.1"), "avx2": ("-mavx2",), "avx512": AVX512}),
    183: Machine("aarch64", ("-march=armv8-a",), {"neon": ()}),
}


class BuildError(Exception):
    """The library cannot be built; the message says why and what would help."""


class NoCompilerError(BuildError):
    """There is no C++ compiler."""


class Compiler(NamedTuple):
    """A C++ compiler that has been tried.

    Args:
        command: how it is called
        machine: what it compiles for
    """

    command: tuple[str, ...]
    machine: Machine

    @property
    def is_zig(self) -> bool:
        return is_zig(self.command)

    @property
    def flags(self) -> tuple[str, ...]:
        # zig has names of its own for processors, and by default takes the one it runs on.
        return (*FLAGS, *(("-mcpu=baseline",) if self.is_zig else self.machine.baseline))


def is_zig(command: tuple[str, ...]) -> bool:
    return any("zig" in Path(word).name for word in command)


def call(command: tuple[str, ...], arguments: tuple[str, ...], cwd: Path) -> None:
    """Run a compiler.

    Raises:
        BuildError: it could not be run, or did not succeed; with what it said
    """
    try:
        done = subprocess.run([*command, *arguments], cwd=cwd, capture_output=True, check=False)
    except OSError as error:
        raise BuildError(f"cannot run {shlex.join(command)}: {error.strerror}") from None
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode:
        raise BuildError(f"{said.strip()}\n{shlex.join(command)} {' '.join(arguments)} ended with {done.returncode}")
    # Warnings are not swallowed.
    sys.stderr.write(said)


def link(command: tuple[str, ...], objects: tuple[str, ...], library: str, cwd: Path) -> None:
    """Link object files into a shared library that needs the C library and nothing else."""
    # gcc before 13 does not know -nostdlib++; zig takes -nodefaultlibs as a wish to build libc++ first.
    libraries = ("-nostdlib++",) if is_zig(command) else ("-nodefaultlibs", "-lm", "-lpthread", "-lc", "-lgcc")
    call(command, ("-shared", "-pthread", *objects, "-o", library, "-Wl,-z,defs", "-Wl,--as-needed", *libraries), cwd)


def try_out(command: tuple[str, ...]) -> Compiler:
    """Build a small library.

    Raises:
        BuildError: the compiler cannot do it, or it compiles for something else than Linux
    """
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "probe.cpp").write_text(PROBE)
        call(command, (*FLAGS, "-c", "probe.cpp", "-o", "probe.o"), here)
        link(command, ("probe.o",), "probe.so", here)
        header = (here / "probe.so").read_bytes()[:20]
    if not header.startswith(b"\x7fELF"):
        raise BuildError(f"{shlex.join(command)} does not compile for Linux; fasthaar supports Linux only")
    number = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return Compiler(command, MACHINES.get(number, Machine(platform.machine(), (), {})))


def zig_command() -> tuple[str, ...]:
    """How the package ziglang compiles for this machine, with an old glibc where it has the choice."""
    target: tuple[str, ...] = ()
    if platform.libc_ver()[0] == "glibc" and platform.machine() in {machine.name for machine in MACHINES.values()}:
        target = ("-target", f"{platform.machine()}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}")
    return (sys.executable, "-m", "ziglang", "c++", *target)


def find_compiler() -> Compiler:
    """Find a C++ compiler that works.

    Raises:
        NoCompilerError: there is none
        BuildError: the one that $CXX names does not work, or this is not Linux
    """
    if sys.platform != "linux":
        raise BuildError(f"fasthaar supports Linux only, and this is {sys.platform}")
    if wanted := os.environ.get("CXX", "").strip():
        try:
            return try_out(tuple(shlex.split(wanted)))
        except BuildError as error:
            raise BuildError(f"{error}\nthe compiler that CXX names does not work: {wanted}") from None
    for name in ("g++", "c++", "clang++"):
        if shutil.which(name):
            try:
                return try_out((name,))
            except BuildError:
                continue
    if importlib.util.find_spec("ziglang"):
        return try_out(zig_command())
    raise NoCompilerError(f"no C++ compiler: install g++ or clang++, or `pip install {ZIG}`, or set CXX")


def compile_library(compiler: Compiler, library: Path, sources: Path = ROOT / "src") -> None:
    """Compile all sources and put the library into its place, in one step so that no process sees half of it.

    Args:
        library: the file to write; a process that has loaded the one before keeps that
        sources: the folder; kernels of other machines are left out

    Raises:
        BuildError: a source does not compile, with what the compiler says, or does not link
    """
    files = sorted(sources.glob("*.cpp"))
    # The vector kernels take longest, so they come first.
    units = {f"kernel_{name}.cpp": flags for name, flags in compiler.machine.kernels.items()}
    units |= {file.name: () for file in files if not file.name.startswith("kernel_") or file.name == SCALAR}
    with tempfile.TemporaryDirectory() as folder:

        def translate(name: str) -> str:
            made = str(Path(folder, name).with_suffix(".o"))
            # Called in the folder of the sources, so that no path of this machine gets into the library.
            call(compiler.command, (*compiler.flags, *units[name], "-c", name, "-o", made), sources)
            return made

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = tuple(pool.map(translate, units))
        linked = Path(folder, "linked.so")
        link(compiler.command, objects, str(linked), sources)
        fresh = library.with_name(f".{library.name}.{os.getpid()}")
        shutil.copy(linked, fresh)
        fresh.replace(library)


def platform_tag(library: Path, machine: Machine) -> str:
    """The platform that a wheel with this library may name: as old a glibc as the symbols it needs allow."""
    versions = re.findall(rb"GLIBC_(\d+)\.(\d+)", library.read_bytes())
    if not versions or machine not in MACHINES.values():
        return sysconfig.get_platform().replace("-", "_").replace(".", "_")
    major, minor = max(GLIBC, *((int(major), int(minor)) for major, minor in versions))
    return f"manylinux_{major}_{minor}_{machine.name}"


class NativeLibraryHook(BuildHookInterface[WheelBuilderConfig]):
    """Adds the library to a wheel, or puts it into the source tree for an editable installation."""

    def dependencies(self) -> list[str]:
        """zig is 400 MB large: it is asked for only where there is no other compiler."""
        try:
            find_compiler()
        except NoCompilerError:
            return [ZIG]
        except BuildError as error:
            raise SystemExit(f"fasthaar: {error}") from None
        return []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        library = Path(self.folder.name, "library.so") if version == "standard" else ROOT / LIBRARY
        try:
            compiler = find_compiler()
            compile_library(compiler, library)
        except BuildError as error:
            # Not a traceback: installers show what was said last.
            raise SystemExit(f"fasthaar: {error}") from None
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag(library, compiler.machine)}"
        if version == "standard":
            build_data["force_include"][str(library)] = LIBRARY

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self.folder.cleanup()


if __name__ == "__main__":
    try:
        print(shlex.join(find_compiler().command))
    except BuildError as problem:
        print(f"fasthaar: {problem}", file=sys.stderr)
        sys.exit(1 if isinstance(problem, NoCompilerError) else 2)

"""Prints tables in Markdown: `python -m benchmarks [speed] [sizes] ... [--target avx512 --target avx2]`.

The target is chosen when fasthaar is imported, so each one that is asked for is measured by a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from benchmarks import resources, speed, training

SECTIONS = {
    "speed": "every cascade on two photographs, one thread",
    "scales": "by scale factor",
    "sizes": "by size of the picture",
    "threads": "two threads beside one",
    "memory": "peak memory of a detection",
    "load": "loading a cascade",
    "training": "stages and trees",
}


def main() -> None:
    """Measure what the command line asks for."""
    described = "; ".join(f"{name}: {what}" for name, what in SECTIONS.items())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=f"fasthaar beside OpenCV. {described}.")
    parser.add_argument("sections", nargs="*", metavar="section", help="which tables; by default speed")
    parser.add_argument("--target", action="append", help="avx512, avx2, sse4, neon or scalar; by default the best")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of measurements for each row (default 15)")
    options = parser.parse_args()
    sections = options.sections or ["speed"]
    if unknown := [section for section in sections if section not in SECTIONS]:
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    for target in options.target or []:
        command = [sys.executable, "-m", "benchmarks", *sections, "--rounds", str(options.rounds)]
        subprocess.run(command, env=os.environ | {"FASTHAAR_TARGET": target}, check=True)
    if not options.target:
        measure(sections, options.rounds)


def measure(sections: list[str], rounds: int) -> None:
    """Print the tables of this process's target."""
    speed.print_machine()
    for section in sections:
        print(f"\n### {section}: {SECTIONS[section]}\n", flush=True)
        module = next(module for module in (speed, resources, training) if hasattr(module, section))
        getattr(module, section)(rounds)


if __name__ == "__main__":
    main()

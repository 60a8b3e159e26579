"""Tries a wheel as somebody else would: in an environment that has NumPy and nothing else. `make wheel` calls it.

    python fasthaar/tests/try_wheel.py dist/fasthaar-*.whl

It ends with 1 when the wheel is not for glibc 2.17, or finds other rectangles than cv2.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import cv2
import cv2.data
import numpy as np

PICTURE = Path(__file__).with_name("photographs") / "astronaut.jpg"
CASCADE = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
DETECT = """
import sys
import numpy
import fasthaar
grey = numpy.load(sys.argv[1])
found = fasthaar.CascadeClassifier(sys.argv[2]).detectMultiScale(grey)
numpy.save(sys.argv[3], found)
print("tried", fasthaar.__file__, "on", fasthaar.target())
"""


def main(wheel: Path) -> None:
    """Install and run the wheel.

    Raises:
        SystemExit: it is not as it should be
    """
    if not re.search(r"-py3-none-manylinux_2_17_\w+\.whl$", wheel.name):
        raise SystemExit(f"{wheel.name} needs a newer glibc than 2.17")
    grey = cv2.imread(str(PICTURE), cv2.IMREAD_GRAYSCALE)
    assert grey is not None, PICTURE
    wanted = np.asarray(cv2.CascadeClassifier(str(CASCADE)).detectMultiScale(grey))
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        venv.create(here / "venv")
        python = here / "venv" / "bin" / "python"
        # The same NumPy as here, so that nothing is fetched that is not pinned.
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
        subprocess.run([*pip, "install", f"numpy=={np.__version__}", str(wheel.resolve())], check=True)
        np.save(here / "grey.npy", grey)
        files = [str(here / "grey.npy"), str(CASCADE), str(here / "found.npy")]
        subprocess.run([python, "-I", "-c", DETECT, *files], check=True, cwd=here)
        found = np.load(here / "found.npy")
    if not len(found) or not np.array_equal(found, wanted):
        raise SystemExit(f"{wheel.name} finds {found.tolist()}, cv2 {wanted.tolist()}")
    print(f"{wheel} ({wheel.stat().st_size} bytes) finds what cv2 finds")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

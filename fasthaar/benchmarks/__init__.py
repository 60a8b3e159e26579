"""How fast fasthaar is beside OpenCV: `python -m benchmarks --help`."""

import sys
from pathlib import Path

# What is measured are the tests' pictures. The tests are no package, since that of the service is called `tests`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

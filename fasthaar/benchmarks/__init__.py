"""How fast fasthaar is beside OpenCV: `python -m benchmarks --help`."""

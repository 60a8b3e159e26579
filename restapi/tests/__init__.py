"""The test suite: `python -m unittest discover -s restapi/tests -t restapi`."""

import structlog

import imgdetect  # noqa: F401 - sets OpenCV's limits before any test imports it


def _drop(*unused: object) -> structlog.typing.EventDict:
    raise structlog.DropEvent


# The log of the application under test would bury the result; tests that want it use structlog.testing.
structlog.configure(processors=[_drop])

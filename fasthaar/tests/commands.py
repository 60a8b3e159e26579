"""Running the workshop's commands in this process."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

from fasthaar.workshop import main


def run(*arguments: object) -> tuple[int, str, str]:
    """The exit code of `fasthaar` with these arguments, and what it wrote to standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()

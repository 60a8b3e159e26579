"""The workshop: making cascades and judging them. Detection needs none of it, and none of what it depends on.

`pip install fasthaar[workshop]` installs the libraries; `fasthaar --help` lists the commands.
"""

from __future__ import annotations

import sys

__all__ = ["WorkshopError", "main"]


class WorkshopError(Exception):
    """Something is wrong with what was asked for; the message says what, and what would be right, in one line."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the console script `fasthaar`.

    Args:
        arguments: instead of those that the process was started with.

    Returns:
        The exit code: 0; 1 when a command was interrupted; 2 for what is wrong, said in one line on standard error.
    """
    try:
        from fasthaar.workshop.cli import run  # noqa: PLC0415 - it needs what may not be installed

        return run(arguments)
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "fasthaar":
            raise
        problem = f"{error.name} is not installed; the workshop needs pip install 'fasthaar[workshop]'"
    except WorkshopError as error:
        problem = str(error)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        problem = f"{place}{error.strerror or error}"
    except MemoryError:
        problem = "there is not enough memory"
    sys.stdout.flush()
    print(f"fasthaar: {problem}", file=sys.stderr)
    return 2

"""How a command ends when something is raised: in one line, or, with --debug, with a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

from espnet_shrink.errors import ShrinkError, first_line

INTERRUPTED, PIPE_CLOSED = 130, 141  # as a shell has it: 128 + the signal's number


@contextlib.contextmanager
def ends_in_one_line(name: str, debug: bool, how_to_debug: str) -> Iterator[None]:
    """Run a command in this block; whatever it raises ends the process.

    Bad input, and what another library raises, is one line on stderr and exit status 2. Ctrl-C
    and a reader that has gone (`... | head`) say nothing.

    Args:
        name: of the command, before the line.
        debug: show the traceback, too.
        how_to_debug: what a user types to see it.
    """
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        _show(debug)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _show(debug)
        # Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    except ShrinkError as error:
        _show(debug)
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        _show(debug)
        # The system's own words need no guess.
        guess = "" if isinstance(error, (OSError, MemoryError)) else "perhaps a defect; "
        print(
            f"{name}: {first_line(error)} ({guess}{how_to_debug} for the traceback)",
            file=sys.stderr,
        )
        sys.exit(2)


def _show(debug: bool) -> None:
    if debug:
        traceback.print_exc()

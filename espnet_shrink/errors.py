"""The one exception for anything a user can mend, and what makes it of other libraries' own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


class ShrinkError(Exception):
    """Bad input: one line saying what is wrong, where, and what to do.

    The command line prints the message as it is and exits with status 2.
    """


LONGEST = 300  # characters of another library's message


@contextlib.contextmanager
def working_on(what: str) -> Iterator[None]:
    """Name what was being worked on, whatever a library raises within the block.

    For blocks in which other libraries work on a user's files; `espnet-shrink --debug` shows where
    it came from.

    Raises:
        ShrinkError: `what`, and the first line of the exception that ended the block.
    """
    try:
        yield
    except (ShrinkError, BrokenPipeError):
        raise
    except Exception as error:
        raise ShrinkError(f"{what}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """An exception in one line: what a user would call it, and the first line it has to say."""
    said = next((line for line in map(str.strip, str(error).splitlines()) if line), "")
    said = " ".join(said.split())[:LONGEST]
    if out_of_memory(error):
        return f"not enough memory ({said or type(error).__name__}): free some, or use less data"
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
        return f"{error.strerror}{where}"
    if isinstance(error, KeyError):  # prints as no more than the key
        return f"KeyError: {said}"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """MemoryError, or one of torch's, which are RuntimeErrors on a CPU."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(word in str(error) for word in ("out of memory", "can't allocate memory"))
    )

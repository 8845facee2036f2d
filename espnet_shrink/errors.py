"""The one exception for anything a user can mend."""


class ShrinkError(Exception):
    """Bad input: one line saying what is wrong, where, and what to do.

    The command line prints the message as it is and exits with status 2.
    """

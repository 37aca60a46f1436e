"""The one error that a user is meant to read."""


class StageError(Exception):
    """Something outside our code is wrong: data, params, network or disk.

    The message says what, where, what was expected and what to do next. The door prints it without a
    traceback and exits with 1; any other exception is a bug and keeps its traceback.
    """

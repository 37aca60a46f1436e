"""The one error of the flows that a user is meant to read."""


class FlowError(Exception):
    """Something outside our code is wrong: the workspace, git, DVC, the server, or a stage that failed.

    The message says what, where, what was expected and what to do next. The command line prints it as one line and
    exits with 1; any other exception is a bug and keeps its traceback.
    """

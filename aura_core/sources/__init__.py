"""Where a session's frames come from: a file, a camera, a desktop.

A source drives a session from outside: it calls `feed` and `ask` and knows nothing about what happens within.
"""


class ReplayError(Exception):
    """A video or a script that cannot be used; the text is one clear line for the user."""

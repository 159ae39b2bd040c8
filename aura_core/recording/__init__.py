"""Sessions written down as they happen, and run again: every decision the same, or the first difference shown.

`writer` and `session` record, `replay` and `report` run again, `format` says what is in a file, `folder` keeps a
folder of recordings within its bounds, `maketest` makes a test of one. Commands: `python -m aura_core.recording`.
"""


class RecordingError(Exception):
    """A recording that cannot be made, read or run again; the text is one clear line for the user."""


#: The ending of a recording's name.
SUFFIX = ".aurarec"

"""The page in the browser. Importing this costs nothing; `aura_core.ui.page.serve` serves it."""


class PortInUse(OSError):
    """The port cannot be listened on; `strerror` is one clear line."""

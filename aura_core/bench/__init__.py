"""How fast is it here: the real session, engine and voice, driven and timed; nothing is mocked.

Each measurement is a command of its own (`latency_command` with `latency`), made known to `__main__`. What they have in
common lies beside them: what is played (`stream`), what runs (`options`), where (`machine`), the figures (`summary`).
"""


class BenchError(Exception):
    """The measurement could not be made; one line for the user."""

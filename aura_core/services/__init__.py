"""Model servers: their environments, their processes, how they are started, watched and stopped.

Nothing here knows what is served; that is `aura_core.deployment`. Every server has a process group and a locked
environment of its own, because vLLM, qwen-asr, qwen-tts and Gradio cannot be installed together. POSIX only.
"""


class ServiceError(RuntimeError):
    """A server or what it needs cannot be had; the message is one line for the user. `tail`: the end of its log."""

    def __init__(self, message: str, tail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.tail = tail

"""How the models of the aura profile share the memory of one or two GPUs, as typed values.

A share is what vLLM calls `gpu_memory_utilization`: the part of the whole card a process may use, weights, activations
and KV cache together. On one card the shares must leave something for CUDA itself. They follow vllm-omni's published
deployment of the same models (0.10, 0.40, 0.20, 0.20 on 80 GB), scaled by what the weights need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

#: Most of a card that may be given away.
FULL = 0.92


@dataclass(frozen=True)
class Share:
    """`memory` (a fraction) of GPU number `gpu`, counted among the GPUs of the preset."""

    gpu: int
    memory: float


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine: what CUDA_VISIBLE_DEVICES calls it, and its memory."""

    id: str
    mib: int


@dataclass(frozen=True)
class Preset:
    """Who gets what. Raises ValueError when a card is overbooked."""

    name: str
    about: str
    mib: int
    """Memory that each GPU must have."""
    chat: Share
    asr: Share
    talker: Share
    decoder: Share
    """The second stage of speech synthesis, from codes to sound; on the GPU of the first."""
    chat_model: str | None = None
    """In place of the profile's checkpoint."""
    asr_model: str = "Qwen/Qwen3-ASR-1.7B"
    tts_model: str = "Qwen/Qwen3-TTS-12Hz-1.7B"
    """Without the last part of its name: "-Base" clones a voice, "-CustomVoice" has some of its own."""
    max_model_len: int = 32768
    """Longest prompt of the chat model; 45 chunks of 640 by 480 are about 14,000 tokens."""

    def __post_init__(self) -> None:
        for gpu in range(self.gpus):
            taken = sum(share.memory for share in self._shares if share.gpu == gpu)
            if not 0 < taken <= FULL:
                raise ValueError(f"{self.name} gives away {taken:.0%} of GPU {gpu}, not between 0 and {FULL:.0%}")
        if self.talker.gpu != self.decoder.gpu:
            raise ValueError(f"{self.name} puts the two stages of speech synthesis on two GPUs")

    @property
    def gpus(self) -> int:
        return 1 + max(share.gpu for share in self._shares)

    @property
    def _shares(self) -> tuple[Share, ...]:
        return self.chat, self.asr, self.talker, self.decoder

    def fits(self, gpus: Sequence[Gpu]) -> bool:
        """Whether these GPUs are enough and large enough."""
        return len(gpus) >= self.gpus and all(gpu.mib >= self.mib for gpu in gpus[: self.gpus])


_ALL = (
    Preset(
        "two-80gb", "the paper's: the 8B model on one GPU, speech on the other", 78_000,
        chat=Share(0, 0.90), asr=Share(1, 0.20), talker=Share(1, 0.30), decoder=Share(1, 0.30),
    ),
    Preset(
        "one-80gb", "everything on one GPU", 78_000,
        chat=Share(0, 0.42), asr=Share(0, 0.10), talker=Share(0, 0.20), decoder=Share(0, 0.18),
    ),
    Preset(
        "one-48gb", "everything on one GPU, with a shorter prompt", 45_000,
        chat=Share(0, 0.52), asr=Share(0, 0.13), talker=Share(0, 0.14), decoder=Share(0, 0.11),
        max_model_len=24576,
    ),
    Preset(
        "one-24gb", "small models; the chat model is not trained for silence: quality is not AURA's", 22_500,
        chat=Share(0, 0.45), asr=Share(0, 0.14), talker=Share(0, 0.17), decoder=Share(0, 0.12),
        chat_model="Qwen/Qwen3-VL-2B-Instruct", asr_model="Qwen/Qwen3-ASR-0.6B",
        tts_model="Qwen/Qwen3-TTS-12Hz-0.6B", max_model_len=20480,
    ),
)  # fmt: skip

#: The ones there are, the largest first.
PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _ALL})


def choose(gpus: Sequence[Gpu], name: str | None = None) -> Preset:
    """The preset `name`, or the largest that fits. Raises ValueError, in one line."""
    if name is not None:
        if name not in PRESETS:
            raise ValueError(f"no preset {name!r}; there are: {', '.join(PRESETS)}")
        if not PRESETS[name].fits(gpus):
            raise ValueError(f"the preset {name} needs {_needs(PRESETS[name])}; there are: {_described(gpus)}")
        return PRESETS[name]
    for preset in PRESETS.values():
        if preset.fits(gpus):
            return preset
    smallest = [*PRESETS.values()][-1]
    raise ValueError(f"the aura profile needs at least {_needs(smallest)}; there are: {_described(gpus)}")


def _needs(preset: Preset) -> str:
    return f"{preset.gpus} GPU{'s' * (preset.gpus > 1)} with {preset.mib / 1024:.0f} GiB each"


def _described(gpus: Sequence[Gpu]) -> str:
    return ", ".join(f"GPU {gpu.id} with {gpu.mib / 1024:.0f} GiB" for gpu in gpus) or "none"

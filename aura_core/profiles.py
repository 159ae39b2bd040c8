"""What runs where: a profile is the whole choice of model, speech and window sizes, as one printable value.

Pick one by name, override single fields by flags, print what you got, build its engine. Heavy imports happen in
`build_engine` only, so that `--help` and a wrong flag answer at once.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from aura_core.context import PLAIN_SYSTEM_PROMPT, SYSTEM_PROMPT
from aura_core.engines.base import Engine, EngineError
from aura_core.session import SessionConfig

if TYPE_CHECKING:
    from aura_core.speech.asr import Asr
    from aura_core.speech.tts import Tts

#: The checkpoint that comes with the repository.
NANO_CHECKPOINT = Path(__file__).resolve().parent.parent / "assets" / "aura-nano"
#: How Qwen3-TTS names the languages it speaks.
_LANGUAGES = {"zh": "Chinese", "en": "English", "ja": "Japanese", "ko": "Korean", "de": "German", "fr": "French",
              "ru": "Russian", "pt": "Portuguese", "es": "Spanish", "it": "Italian"}  # fmt: skip
#: The environment variable with the key of the servers, if they want one.
KEY = "AURA_API_KEY"


@dataclass(frozen=True)
class Profile:
    """One way to run the assistant. Raises ValueError, in one line, for values that cannot work."""

    name: str
    checkpoint: str
    """A checkpoint folder, or a repository on the Hugging Face hub ("owner/name")."""
    engine: Literal["local", "openai"] = "local"
    """`local`: transformers in this process; `openai`: a chat server."""
    engine_url: str | None = None
    """The chat server; None with engine `openai`: one that we start (`aura_core.deployment`)."""
    model: str | None = None
    """What the chat server calls the model; None: the first that it lists."""
    chat_format: Literal["compact", "checkpoint"] = "compact"
    """The chat template that a server which we start gets: `compact`, AURA's own, or the checkpoint's."""
    silence: Literal["token", "prompt"] = "token"
    """`token`: the model was trained to be silent; `prompt`: a plain Qwen3-VL, asked to be."""
    max_pixels: int | None = None
    """Pixels that a served model sees of both frames of a chunk; None: as its folder says, or 602112."""
    asr: Literal["embedded", "openai", "none"] = "embedded"
    """Speech recognition; `embedded` runs in this process, English only; `openai`: a server."""
    asr_url: str | None = None
    """The recognition server; None with asr `openai`: one that we start. The same holds for `tts_url`."""
    asr_model: str | None = None
    """The model; None: the server's first, or the preset's if we start it. The same holds for `tts_model`."""
    asr_server: Literal["vllm", "qwen-asr"] = "vllm"
    """What serves recognition if we start it: vLLM, or our service on the qwen-asr package."""
    language: str | None = None
    """What the user speaks, as in ISO 639-1 ("en", "zh"); None: the models find out."""
    tts: Literal["embedded", "openai", "none"] = "embedded"
    """Speech synthesis; `embedded` runs in this process; `openai`: a server."""
    tts_url: str | None = None
    tts_model: str | None = None
    tts_server: Literal["vllm-omni", "qwen-tts"] = "vllm-omni"
    """What serves synthesis if we start it: vllm-omni, or our service on the qwen-tts package (no streaming)."""
    voice: str = "ryan"
    """A voice that the synthesis server knows."""
    voice_sample: str | None = None
    """A recording of a few seconds whose voice is cloned instead, by a Qwen3-TTS Base model."""
    voice_text: str | None = None
    """What is said in it; with it the clone is closer."""
    preset: str | None = None
    """How servers that we start share the GPUs (`aura_core.presets`); None: the largest that fits."""
    gpus: str | None = None
    """The GPUs for them, as in CUDA_VISIBLE_DEVICES ("0,1"); None: all."""
    n: int = 30
    """Chunks of one second that stay in the window after a cut (N)."""
    n_extra: int = 15
    """Chunks that a cut drops, so the window holds up to n + n_extra (N')."""
    m: int = 10
    """Question-and-answer groups that a cut leaves in the history (M)."""
    max_tokens: int = 64
    """Longest reply, in tokens."""
    silent_bias: float | None = None
    """Added to the silent token's logit; above 0 quieter, below 0 more eager; None: as the checkpoint says."""
    alert_confidence: float | None = None
    """An alert is said only if each of its words has at least this probability; 0: as it comes; None: as the
    checkpoint says."""
    prewarm: bool = True
    """Compute the prompt after the next cut of the window in idle time."""
    device: str = "cpu"
    """"cpu" or a CUDA device such as "cuda" or "cuda:1"."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of weights and computation."""
    threads: int | None = None
    """CPU threads of the model; None: one for a small model, as many as there are cores for others."""

    def __post_init__(self) -> None:
        for name in ("n", "n_extra", "m", "max_tokens", "max_pixels", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in (allowed := get_args(kind)):
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not self.checkpoint:
            raise ValueError("checkpoint must not be empty")
        for name in ("engine_url", "asr_url", "tts_url"):
            url = getattr(self, name)
            if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
                raise ValueError(f"{name} must be like http://127.0.0.1:8000/v1, not {url!r}")

    def override(self, **flags: Any) -> Profile:
        """This profile with the given fields changed; None means "as it was", as with a flag that was not given.

        Raises ValueError for an unknown field or a value that cannot work.
        """
        known = {field.name for field in fields(self)}
        if unknown := sorted(flags.keys() - known):
            raise ValueError(f"a profile has no {', '.join(unknown)}")
        return dataclasses.replace(self, **{name: value for name, value in flags.items() if value is not None})

    def describe(self) -> str:
        """The profile as lines of `field  value`, for people."""
        return "\n".join(f"{field.name:<12} {_shown(getattr(self, field.name))}" for field in fields(self))

    def session_config(self, **changes: Any) -> SessionConfig:
        """The session that fits this profile and its checkpoint; `changes` are further fields of `SessionConfig`."""
        from aura_core.engines.checkpoint import settings

        plain = self.silence == "prompt"
        vocabulary = {} if plain else settings(self.checkpoint).get("vocabulary") or {}
        values = {
            "n": self.n,
            "n_extra": self.n_extra,
            "m": self.m,
            "prewarm": self.prewarm,
            "system_prompt": PLAIN_SYSTEM_PROMPT if plain else SYSTEM_PROMPT,
            "kinds": tuple(vocabulary.get("kinds") or ()),
            "colors": tuple(vocabulary.get("colors") or ()),
        }
        return SessionConfig(**(values | changes))


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "nano": Profile("nano", str(NANO_CHECKPOINT)),
        # The paper's system: the released 8B model and Qwen3 speech, on one or two GPUs.
        "aura": Profile(
            "aura",
            "aurateam/AURA",
            engine="openai",
            asr="openai",
            tts="openai",
            max_tokens=128,
            device="cuda",
            dtype="bfloat16",
        ),
    }
)


def get_profile(name: str) -> Profile:
    """A profile by name. Raises ValueError that names the ones there are."""
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}; there are: {', '.join(PROFILES)}")
    return PROFILES[name]


def build_engine(profile: Profile) -> Engine:
    """Load the profile's model, or find it on its server. Takes seconds, and must not be called from an event loop.

    Raises EngineError, in one line, when it is missing or not usable.
    """
    if profile.engine == "openai":
        return _served(profile)
    import torch

    from aura_core.engines.local import LocalEngine

    return LocalEngine(
        profile.checkpoint,
        threads=profile.threads,
        dtype=getattr(torch, profile.dtype),
        silent_bias=profile.silent_bias,
        alert_confidence=profile.alert_confidence,
        max_tokens=profile.max_tokens,
        device=profile.device,
        silence=profile.silence,
    )


def _served(profile: Profile) -> Engine:
    from aura_core.engines.checkpoint import pixel_config, settings
    from aura_core.engines.openai import OpenAIEngine, ServerConfig

    known = settings(profile.checkpoint)
    bias, confidence = profile.silent_bias, profile.alert_confidence
    if profile.silence == "token":
        bias = known.get("silent_bias") if bias is None else bias
        confidence = known.get("alert_confidence") if confidence is None else confidence
    try:
        config = ServerConfig(
            url=_url(profile, "engine"),
            model=profile.model,
            key=os.environ.get(KEY),
            silence=profile.silence,
            silent_bias=float(bias or 0.0),
            alert_confidence=float(confidence or 0.0),
            max_tokens=profile.max_tokens,
            pixels=pixel_config(profile.checkpoint, profile.max_pixels),
        )
    except ValueError as error:
        raise EngineError(str(error)) from error
    engine = OpenAIEngine(config)
    engine.probe()
    return engine


def build_asr(profile: Profile) -> Asr | None:
    """The profile's speech recognition, not started yet; None if it has none."""
    if profile.asr == "none":
        return None
    if profile.asr == "openai":
        from aura_core.speech.openai_asr import OpenAiAsr

        return OpenAiAsr(_url(profile, "asr"), profile.asr_model, profile.language, os.environ.get(KEY))
    from aura_core.speech.asr import EmbeddedAsr
    from aura_core.speech.grammar import Vocabulary

    return EmbeddedAsr(Vocabulary.from_checkpoint(profile.checkpoint))


def build_tts(profile: Profile) -> Tts | None:
    """The profile's voice, not started yet; None if it has none. Raises TtsError, in one line."""
    from aura_core.speech.tts import EmbeddedTts, TtsError

    if profile.tts == "none":
        return None
    if profile.tts == "embedded":
        return EmbeddedTts()
    from aura_core.speech.openai_tts import OpenAiTts, cloned

    try:
        extra = cloned(Path(profile.voice_sample), profile.voice_text) if profile.voice_sample else None
    except OSError as error:
        raise TtsError(f"the voice's sample {profile.voice_sample}: {error.strerror}") from error
    language, key = _LANGUAGES.get(profile.language or ""), os.environ.get(KEY)
    return OpenAiTts(_url(profile, "tts"), profile.tts_model, profile.voice, language, extra, api_key=key)


def _url(profile: Profile, part: str) -> str:
    url = getattr(profile, f"{part}_url")
    if url is None:
        raise ValueError(f"the profile {profile.name} has no {part}_url: its servers were not started")
    return url


def _shown(value: object) -> str:
    if value is None:
        return "default"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)

"""What runs where: a profile is the whole choice of model, speech and window sizes, as one printable value.

Pick one by name, override single fields by flags, print what you got, build its engine. Heavy imports happen in
`build_engine` only, so that `--help` and a wrong flag answer at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from aura_core.engines.base import Engine
from aura_core.session import SessionConfig

#: The checkpoint that comes with the repository.
NANO_CHECKPOINT = Path(__file__).resolve().parent.parent / "assets" / "aura-nano"


@dataclass(frozen=True)
class Profile:
    """One way to run the assistant. Raises ValueError, in one line, for values that cannot work."""

    name: str
    checkpoint: str
    """A checkpoint folder, or a repository on the Hugging Face hub ("owner/name")."""
    engine: Literal["local"] = "local"
    """`local`: transformers in this process."""
    asr: Literal["embedded", "none"] = "embedded"
    """Speech recognition; `embedded` runs in this process, English only."""
    tts: Literal["embedded", "none"] = "embedded"
    """Speech synthesis; `embedded` runs in this process."""
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
    prewarm: bool = True
    """Compute the prompt after the next cut of the window in idle time."""
    device: str = "cpu"
    """"cpu" or a CUDA device such as "cuda" or "cuda:1"."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of weights and computation."""
    threads: int | None = None
    """CPU threads of the model; None: one for a small model, as many as there are cores for others."""

    def __post_init__(self) -> None:
        for name in ("n", "n_extra", "m", "max_tokens", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        choices = {"engine": ("local",), "asr": ("embedded", "none"), "tts": ("embedded", "none"),
                   "dtype": ("float32", "bfloat16", "float16")}  # fmt: skip
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not self.checkpoint:
            raise ValueError("checkpoint must not be empty")

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
        """The session that fits this profile; `changes` are further fields of `SessionConfig`."""
        values = {"n": self.n, "n_extra": self.n_extra, "m": self.m, "prewarm": self.prewarm}
        return SessionConfig(**(values | changes))


PROFILES: Mapping[str, Profile] = MappingProxyType({"nano": Profile("nano", str(NANO_CHECKPOINT))})


def get_profile(name: str) -> Profile:
    """A profile by name. Raises ValueError that names the ones there are."""
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}; there are: {', '.join(PROFILES)}")
    return PROFILES[name]


def build_engine(profile: Profile) -> Engine:
    """Load the profile's model. Takes seconds; raises EngineError, in one line, when it is missing or not usable."""
    import torch

    from aura_core.engines.local import LocalEngine

    return LocalEngine(
        profile.checkpoint,
        threads=profile.threads,
        dtype=getattr(torch, profile.dtype),
        silent_bias=profile.silent_bias,
        max_tokens=profile.max_tokens,
        device=profile.device,
    )


def _shown(value: object) -> str:
    if value is None:
        return "default"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)

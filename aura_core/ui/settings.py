"""What a user may set on the page, and within which bounds: never more than the profile spends on a session anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aura_core.engines.base import Engine, Tunable
from aura_core.session import SessionConfig
from aura_core.speech.tts import Tts, Voices

#: Widths of the camera's picture that are offered where the model sees the difference.
WIDTHS = (320, 640, 1280)


@dataclass(frozen=True)
class Settings:
    """What a user has set; the defaults are the profile's own."""

    quieter: float = 0.0
    """See `aura_core.engines.base.TunableSession`."""
    voice: str | None = None
    n: int | None = None
    n_extra: int | None = None
    m: int | None = None

    def applied(self, config: SessionConfig) -> SessionConfig:
        """The settings of a new session."""
        sizes = {"n": self.n, "n_extra": self.n_extra, "m": self.m}
        return replace(config, **{name: size for name, size in sizes.items() if size is not None})

    def spoken(self, tts: Tts | None) -> Tts | None:
        """The voice of a new session."""
        return tts.in_voice(self.voice) if self.voice is not None and isinstance(tts, Voices) else tts


@dataclass(frozen=True)
class Offer:
    """What there is to set."""

    quieter: float = 0.0
    """How much quieter or more eager at most; 0: this engine cannot be told."""
    voices: Mapping[str, str] = field(default_factory=dict)
    """Name -> what people call it; empty: there is one voice, or none."""
    n: int = 30
    n_extra: int = 15
    m: int = 10
    """The most of each, which is what there is without being set."""
    widths: tuple[int, ...] = ()
    """Widths of the camera's picture, in pixels; the page asks its camera for them. Empty: they make no difference."""

    @classmethod
    def of(cls, engine: Engine, config: SessionConfig, tts: Tts | None) -> Offer:
        """What can be set with these."""
        pixels = getattr(engine, "pixels", None)
        seen = [width for width in WIDTHS if pixels and width * width * 3 // 4 <= 1.05 * pixels.max_pixels / 2]
        return cls(
            engine.quieter_limit if isinstance(engine, Tunable) else 0.0,
            dict(tts.voices) if isinstance(tts, Voices) else {},
            config.n,
            config.n_extra,
            config.m,
            tuple(seen) if len(seen) > 1 else (),
        )

    def read(self, wish: object) -> Settings:
        """What a page sends (a JSON object, or None for nothing set). Raises ValueError with a line for the user."""
        if wish is None:
            return Settings()
        if not isinstance(wish, dict):
            raise ValueError("The settings are not understood.")
        voice = wish.get("voice")
        if voice is not None and (not isinstance(voice, str) or voice not in self.voices):
            raise ValueError("There is no such voice.")
        sizes = {name: self._size(name, wish.get(name)) for name in ("n", "n_extra", "m")}
        return Settings(self.bias(wish.get("quieter", 0.0)), voice, **sizes)

    def bias(self, wish: Any) -> float:
        """How much quieter (below 0: more eager) to be. Raises ValueError with a line for the user."""
        if isinstance(wish, bool) or not isinstance(wish, int | float) or wish != wish:  # NaN
            raise ValueError("How quiet to be is not understood.")
        if abs(wish) > self.quieter:  # infinity too, and whole numbers that no float can hold
            raise ValueError(f"It can be made quieter or more eager by {self.quieter:g} at most.")
        return float(wish)

    def _size(self, name: str, wish: object) -> int | None:
        most = getattr(self, name)
        if wish is None:
            return None
        if isinstance(wish, bool) or not isinstance(wish, int) or not 1 <= wish <= most:
            label = {"n": "N", "n_extra": "N'", "m": "M"}[name]
            raise ValueError(f"{label} must be from 1 to {most}.")
        return wish

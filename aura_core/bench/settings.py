"""The settings that are compared: the paper's three, and ours with and without prewarming.

All are the same session with other window sizes. "Without prefix reuse" is the paper's way to switch it off: with
N' = 1 every step drops a chunk at the beginning, so nothing behind it is found again. "Without a sliding window" is a
window that is larger than the stream is long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aura_core.bench.stream import Stream
from aura_core.profiles import Profile

NAMES: tuple[str, ...] = ("ours", "no-prewarm", "no-reuse", "no-window")


@dataclass(frozen=True)
class Setting:
    """One of `NAMES`, as it is measured. `longest`: tokens that a prompt may have, if nothing else bounds it."""

    name: str
    title: str
    profile: Profile
    longest: int | None = None

    @property
    def grows(self) -> bool:
        """Whether the prompt grows with the stream, and may become too long."""
        return self.name == "no-window"


def parse(text: str) -> list[str]:
    """`all`, or names with commas between them. Raises ValueError, in one line."""
    names = list(NAMES) if text == "all" else [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in NAMES]:
        raise ValueError(f"there is no setting {unknown[0]!r}; there are: all, {', '.join(NAMES)}")
    if len(set(names)) < len(names):
        raise ValueError("a setting is named twice")
    return names


def make(profile: Profile, names: Sequence[str] | None, stream: Stream) -> list[Setting]:
    """The settings of these names; None: the profile as it is, under the name of `ours`."""
    from aura_core.engines.checkpoint import longest_prompt  # brings torch: not for --help or a wrong flag

    if names is None:
        return [Setting("ours", "AURA" if profile.prewarm else "AURA, without prewarming", profile)]
    made = {
        "ours": Setting("ours", f"AURA, N' = {profile.n_extra}, prewarming", profile.override(prewarm=True)),
        "no-prewarm": Setting(
            "no-prewarm", f"AURA, N' = {profile.n_extra}, without prewarming", profile.override(prewarm=False)
        ),
        "no-reuse": Setting("no-reuse", "without prefix reuse, N' = 1", profile.override(n_extra=1, prewarm=False)),
        "no-window": Setting(
            "no-window",
            "without sliding window",
            profile.override(n=max(profile.n, stream.most_chunks), prewarm=False),
            # A server says itself when a prompt is too long for it.
            longest_prompt(profile.checkpoint) if profile.engine == "local" else None,
        ),
    }
    return [made[name] for name in names]


def served(profile: Profile, settings: Sequence[Setting]) -> Profile:
    """The profile to start servers for: with the widest window, as a server bounds the videos that it takes."""
    widest = max(settings, key=lambda setting: setting.profile.n + setting.profile.n_extra).profile
    return profile.override(n=widest.n, n_extra=widest.n_extra)

"""Profiles: values that cannot work are refused in one line, flags override, and the printed form says it all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from aura_core.engines.base import EngineError
from aura_core.profiles import NANO_CHECKPOINT, PROFILES, Profile, build_engine, get_profile
from train.model import build


def test_nano_is_as_designed() -> None:
    nano = get_profile("nano")
    assert (nano.n, nano.n_extra, nano.m) == (30, 15, 10)
    assert (nano.engine, nano.asr, nano.tts, nano.device) == ("local", "embedded", "embedded", "cpu")
    assert Path(nano.checkpoint) == NANO_CHECKPOINT
    assert NANO_CHECKPOINT.parent.name == "assets"
    assert (NANO_CHECKPOINT.parent.parent / "aura_core").is_dir()


def test_a_profile_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROFILES["nano"].n = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        PROFILES["other"] = PROFILES["nano"]  # type: ignore[index]


def test_flags_override_and_none_does_not() -> None:
    changed = PROFILES["nano"].override(checkpoint="here", threads=None, silent_bias=0.0, prewarm=False)
    assert changed == dataclasses.replace(PROFILES["nano"], checkpoint="here", silent_bias=0.0, prewarm=False)
    with pytest.raises(ValueError, match="colour"):
        PROFILES["nano"].override(colour="red")


@pytest.mark.parametrize(
    "flags", [{"n": 0}, {"threads": 0}, {"max_tokens": -1}, {"engine": "abacus"}, {"dtype": "int8"}, {"checkpoint": ""}]
)
def test_values_that_cannot_work(flags: dict) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(flags))} must .+$") as raised:
        PROFILES["nano"].override(**flags)
    assert "\n" not in str(raised.value)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match="nano"):
        get_profile("mega")


def test_describe_names_every_field() -> None:
    lines = PROFILES["nano"].describe().splitlines()
    assert [line.split()[0] for line in lines] == [field.name for field in dataclasses.fields(Profile)]
    assert all(len(line.split(None, 1)) == 2 for line in lines)


def test_session_config_follows_the_profile() -> None:
    config = PROFILES["nano"].override(n=4, n_extra=2, prewarm=False).session_config(max_waiting=7)
    assert (config.n, config.n_extra, config.m, config.prewarm, config.max_waiting) == (4, 2, 10, False, 7)


def test_kinds_of_things_and_colors_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    nano = PROFILES["nano"]
    assert {"star", "cat"} <= set(nano.session_config().kinds)
    assert {"red", "blue"} <= set(nano.session_config().colors)
    unknown = nano.override(silence="prompt"), nano.override(checkpoint=str(tmp_path)), PROFILES["aura"]
    for config in (profile.session_config() for profile in unknown):
        assert config.kinds == config.colors == ()


async def test_build_engine(tmp_path: Path) -> None:
    checkpoint = build(tmp_path / "little")
    engine = build_engine(PROFILES["nano"].override(checkpoint=str(checkpoint), silent_bias=2.0))
    assert engine.name == "little"
    await engine.open().close()
    await engine.close()
    with pytest.raises(EngineError, match="no checkpoint folder"):
        build_engine(PROFILES["nano"].override(checkpoint=str(tmp_path / "missing")))

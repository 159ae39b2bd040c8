"""The first record: what ran, so that it can be run again, and be told apart from what runs it again.

Of the profile only what differs from the one of that name is written, so that paths which come with the repository
are found on another machine; no address keeps its password.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aura_core.profiles import PROFILES, Profile, get_profile
from aura_core.recording import RecordingError
from aura_core.session import SessionConfig
from aura_core.typed_json import load

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "av", "opencv-python-headless")
#: Bytes at the beginning and at the end of a file of weights that tell it from others: every training changes them.
_ENDS = 1 << 20


def describe(config: SessionConfig, model: str = "", profile: Profile | None = None) -> dict[str, Any]:
    """The first record's content for a session; `profile` None: of an engine that is in no profile."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model,
        "profile": None if profile is None else _profile(profile),
        "checkpoint": None if profile is None else fingerprint(Path(profile.checkpoint)),
        "config": asdict(config),
        "versions": versions(),
        "sampling": "greedy",
        "seed": None,  # nothing is drawn: the likeliest token is taken
    }


def versions() -> dict[str, str]:
    """What decides how numbers are rounded and prompts are built."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def fingerprint(folder: Path) -> str | None:
    """A SHA-256 that tells checkpoints apart in no time, whatever their size; None for one that is not a folder."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_ENDS))
            if size > _ENDS:
                file.seek(max(_ENDS, size - _ENDS))
                digest.update(file.read())
    return digest.hexdigest()


def recorded_config(header: Mapping[str, Any]) -> SessionConfig:
    """How the recorded session behaved. Raises RecordingError when this version has no such settings."""
    try:
        return load(SessionConfig, header.get("config"))
    except ValueError as error:
        raise RecordingError(f"the recorded session settings: {error}") from error


def recorded_profile(header: Mapping[str, Any], **flags: Any) -> Profile:
    """The recorded profile, changed by `flags` (None: as recorded). Raises RecordingError if there is none."""
    recorded = header.get("profile")
    if not isinstance(recorded, dict):
        raise RecordingError("the recording does not say which model it was made with")
    changes = dict(recorded)
    try:
        return get_profile(str(changes.pop("name", ""))).override(**changes).override(**flags)
    except (ValueError, TypeError) as error:
        raise RecordingError(f"the recorded profile: {error}") from error


def _profile(profile: Profile) -> dict[str, Any]:
    usual = PROFILES.get(profile.name)
    changed: dict[str, Any] = {"name": profile.name}
    for item in fields(profile):
        value = getattr(profile, item.name)
        if item.name != "name" and (usual is None or value != getattr(usual, item.name)):
            changed[item.name] = _without_password(value) if item.name.endswith("_url") and value else value
    return changed


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

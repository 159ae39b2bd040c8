"""Checkpoints on the Hugging Face hub: which are here already, and fetching those that are not.

They are fetched before any server starts, with a progress bar; the servers themselves run offline, so that none of
them talks to the hub behind the user's back or hangs when it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aura_core.services import ServiceError


@dataclass(frozen=True)
class Model:
    """A checkpoint: a folder, or a repository on the hub ("owner/name"). `gigabytes`: about its size, for people."""

    name: str
    gigabytes: float | None = None

    @property
    def is_here(self) -> bool:
        """Whether nothing has to be fetched. Asks no network."""
        return Path(self.name).expanduser().is_dir() or self._snapshot(local_files_only=True) is not None

    def fetch(self) -> str:
        """Fetch what is missing; return the folder. Raises ServiceError."""
        path = Path(self.name).expanduser()
        if path.is_dir():
            return str(path)
        if "/" not in self.name.strip("/") or self.name.startswith(("/", ".", "~")):
            raise ServiceError(f"there is no checkpoint folder {self.name}")
        folder = self._snapshot(local_files_only=True) or self._snapshot(local_files_only=False)
        assert folder is not None
        return folder

    def _snapshot(self, local_files_only: bool) -> str | None:
        from huggingface_hub import snapshot_download

        try:
            return snapshot_download(self.name, local_files_only=local_files_only)
        except (
            Exception
        ) as error:  # the hub's client lets through those of its own, of its HTTP library and of the disk
            if local_files_only:
                return None
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ServiceError(f"{self.name} cannot be fetched from the model hub: {reason}") from error

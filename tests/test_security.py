"""What docs/threat-model.md promises and no other test holds."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from pathlib import Path

import pytest

from aura_core.engines.base import EngineError
from tests.command_line import ROOT

SOURCES = sorted(
    path
    for folder in ("aura_core", "data_pipeline", "train", "evals")
    for path in (ROOT / folder).rglob("*.py")
)  # fmt: skip


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call in a file, by the name as it is written."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_nothing_runs_code_that_comes_with_data() -> None:
    wrong = []
    for path in SOURCES:
        for name, call in calls(path):
            given = {word.arg: word.value for word in call.keywords}
            safe = given.get("weights_only")
            if name == "torch.load" and not (isinstance(safe, ast.Constant) and safe.value is True):
                wrong.append(f"{path.name}: torch.load without weights_only=True")
            for word in ("trust_remote_code", "allow_pickle", "shell"):
                value = given.get(word)
                if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
                    wrong.append(f"{path.name}: {word}")
            if name in ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "yaml.load", "marshal.loads"):
                wrong.append(f"{path.name}: {name}")
    assert wrong == []


def test_no_server_that_we_start_is_told_to_trust_remote_code() -> None:
    assert [path.name for path in SOURCES if "trust-remote-code" in path.read_text(encoding="utf-8")] == []


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


def test_a_checkpoint_with_pickled_weights_is_refused(untrained: Path, tmp_path: Path) -> None:
    from aura_core.engines.network import Network

    mark = tmp_path / "it ran"
    folder = shutil.copytree(untrained, tmp_path / "checkpoint")
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(EngineError, match="is not a usable Qwen3-VL checkpoint"):
        Network(folder)
    assert not mark.exists()


def test_a_checkpoint_that_brings_code_does_not_run_it(untrained: Path, tmp_path: Path) -> None:
    from aura_core.engines.network import Network

    mark = tmp_path / "it ran"
    folder = shutil.copytree(untrained, tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoTokenizer": ["code.T", "code.T"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w')\n")
    Network(folder)
    assert not mark.exists()


def test_help_and_profiles_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from aura_core.options import build_parser
    from aura_core.profiles import PROFILES

    for name in ("AURA_API_KEY", "AURA_WEBHOOK_SECRET", "AURA_MQTT_LOGIN", "AURA_CAMERA_LOGIN"):
        monkeypatch.setenv(name, "let-me-in-please")
    shown = build_parser().format_help() + "".join(profile.describe() for profile in PROFILES.values())
    assert "let-me-in" not in shown


def test_no_route_leads_out_of_its_folder() -> None:
    pytest.importorskip("fastrtc", reason="the page needs fastrtc")
    from fastapi.testclient import TestClient

    from aura_core.ui.page import build_app
    from aura_core.ui.visit import Assistant
    from tests.browser import ScriptedEngine

    out = (
        "../page.py",
        "..%2fpage.py",
        "%2e%2e/page.py",
        "..%5cpage.py",
        "....//page.py",
        "%2fetc%2fpasswd",
        "/etc/passwd",
    )
    with TestClient(build_app(Assistant(ScriptedEngine()), {})) as client:
        for way in out:
            for route in ("/aura/static/", "/aura/demos/", "/file=", "/gradio_api/file="):
                for end in ("", ".mp4"):
                    answer = client.get(route + way + end)
                    assert answer.status_code in (400, 403, 404, 405, 422), (route, way, answer.status_code)

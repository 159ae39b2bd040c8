"""The settings that are compared differ in what they compute, as the paper says, and in nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aura_core.bench import settings
from aura_core.bench.__main__ import main
from aura_core.bench.stream import Stream
from aura_core.profiles import get_profile
from tests.fake_vllm import FakeVllm, uuids

N, EXTRA, SECONDS = 6, 3, 20
SMALL = ("--n", str(N), "--n-extra", str(EXTRA), "--seconds", str(SECONDS), "--ask-every", "0")
Report = dict[str, Any]


def measure(*arguments: str) -> Report:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["latency", "--json", *SMALL, *arguments]) == 0
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def found(untrained: Path) -> Report:
    # A bias this large is silent at every first token.
    return measure("--checkpoint", str(untrained), "--silent-bias", "1e6", "--settings", "all")


@pytest.fixture
def series(found: Report) -> Mapping[str, Mapping[str, list[Any]]]:
    return {name: setting["series"] for name, setting in found["settings"].items()}


def test_all_are_there_and_ours_stands_at_the_top(found: Report) -> None:
    assert list(found["settings"]) == list(settings.NAMES)
    ours = found["settings"]["ours"]
    for key in ("step_ms", "ttft_ms", "cached_tokens", "prompt_tokens", "decode_ms_per_token", "steps"):
        assert found[key] == ours[key]
    for setting in found["settings"].values():
        assert setting["steps"] == SECONDS
        assert setting["errors"] == setting["skipped"] == 0
        assert setting["ended"] is None


def test_every_step_is_in_the_series(found: Report) -> None:
    for setting in found["settings"].values():
        series = setting["series"]
        assert series["t"] == [float(t) for t in range(1, SECONDS + 1)]
        assert {len(values) for values in series.values()} == {SECONDS}
        tokens = zip(series["prompt_tokens"], series["cached_tokens"], series["computed_tokens"], strict=True)
        assert all(prompt == cached + computed for prompt, cached, computed in tokens)
        assert setting["computed_tokens"]["max"] == max(series["computed_tokens"])


def test_without_reuse_every_step_computes_its_window(series: Mapping[str, Mapping[str, list[Any]]]) -> None:
    reuse = series["no-reuse"]
    chunk = reuse["computed_tokens"][2]  # one more chunk, and no more
    full = reuse["computed_tokens"][N + 1 :]
    assert min(full) > N * chunk
    assert set(reuse["prompt_tokens"][N + 1 :]) == {max(reuse["prompt_tokens"])}


def test_ours_computes_a_window_at_cuts_only(series: Mapping[str, Mapping[str, list[Any]]]) -> None:
    plain = series["no-prewarm"]["computed_tokens"]
    chunk = plain[2]
    # The first cut is behind chunk N + N', and then there is one every N' chunks.
    after_cuts = list(range(N + EXTRA, SECONDS, EXTRA))
    assert [i for i, tokens in enumerate(plain) if i and tokens > chunk] == after_cuts
    assert all(plain[i] > N * chunk for i in after_cuts)


def test_and_with_prewarming_not_even_there(found: Report, series: Mapping[str, Mapping[str, list[Any]]]) -> None:
    plain, prewarmed = series["no-prewarm"], series["ours"]
    assert prewarmed["prompt_tokens"] == plain["prompt_tokens"]
    chunk = plain["computed_tokens"][2]
    assert max(prewarmed["computed_tokens"][1:]) <= 2 * chunk
    after_cuts = list(range(N + EXTRA, SECONDS, EXTRA))
    assert [i for i, ahead in enumerate(prewarmed["prewarmed"]) if ahead] == after_cuts
    assert found["settings"]["ours"]["prewarmed_tokens"] == sum(prewarmed["cached_tokens"][i] for i in after_cuts)
    assert found["settings"]["no-prewarm"]["prewarmed"] == 0


def test_without_a_window_the_prompt_only_grows(series: Mapping[str, Mapping[str, list[Any]]]) -> None:
    growing = series["no-window"]
    chunk = growing["computed_tokens"][2]
    steps = zip(growing["prompt_tokens"], growing["prompt_tokens"][1:], strict=False)
    assert {later - earlier for earlier, later in steps} == {chunk}
    assert set(growing["computed_tokens"][1:]) == {chunk}
    assert growing["prompt_tokens"][-1] > max(series["ours"]["prompt_tokens"])


def test_the_longest_prompt_ends_a_growing_one(untrained: Path, tmp_path: Path) -> None:
    short = Path(shutil.copytree(untrained, tmp_path / "short"))
    config = json.loads((short / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 400
    (short / "config.json").write_text(json.dumps(config))
    found = measure("--checkpoint", str(short), "--silent-bias", "1e6", "--settings", "no-window,ours")
    grown = found["settings"]["no-window"]
    assert 5 < grown["ended"]["t"] < SECONDS
    assert "400 tokens" in grown["ended"]["why"]
    assert max(grown["series"]["prompt_tokens"]) <= 400
    assert found["steps"] == grown["steps"] < found["settings"]["ours"]["steps"] == SECONDS


class Short(FakeVllm):
    """Takes only so many chunks in a request."""

    def take(self, body: dict[str, Any]) -> tuple[int, str]:
        if len(uuids(body)) > 12:
            return 400, "This model's maximum context length is 4 tokens"
        return super().take(body)


def test_a_server_ends_a_growing_one_in_its_own_words() -> None:
    with Short() as server:
        found = measure("--profile", "aura", "--engine-url", server.url, "--settings", "all")
    assert (found["profile"], found["checkpoint"]) == ("aura", "aura")
    grown = found["settings"]["no-window"]
    assert grown["ended"]["t"] == 13
    assert "maximum context length" in grown["ended"]["why"]
    assert (grown["steps"], grown["errors"]) == (12, 1)
    for name in ("ours", "no-prewarm", "no-reuse"):
        assert found["settings"][name]["steps"] == SECONDS
    computed = {name: setting["full_window"]["computed_tokens"]["mean"] for name, setting in found["settings"].items()}
    assert computed["ours"] < computed["no-prewarm"] < computed["no-reuse"]


def test_failed_decisions_are_in_no_figure() -> None:
    with FakeVllm() as server:
        server.faults.extend(["", "", "500", "500"])
        found = measure("--profile", "aura", "--engine-url", server.url, "--no-prewarm")
    assert (found["steps"], found["errors"]) == (SECONDS - 1, 1)
    assert found["settings"]["ours"]["series"]["t"][:3] == [1.0, 2.0, 4.0]


def test_names() -> None:
    assert settings.parse("all") == list(settings.NAMES)
    assert settings.parse("no-window, ours") == ["no-window", "ours"]
    for wrong in ("", "theirs", "ours,ours", "all,ours"):
        with pytest.raises(ValueError, match=r"^(there is no setting|a setting is named twice)"):
            settings.parse(wrong)


def test_a_window_that_never_cuts_is_wider_than_the_stream() -> None:
    profile = get_profile("nano")
    stream = Stream(300.0)
    made = {setting.name: setting for setting in settings.make(profile, settings.NAMES, stream)}
    assert made["no-window"].profile.n >= stream.most_chunks
    assert made["no-window"].longest == 32_768
    assert made["no-reuse"].profile.n_extra == 1
    assert made["ours"].profile == profile
    wide = settings.served(profile, list(made.values()))
    assert (wide.n, wide.n_extra) == (made["no-window"].profile.n, profile.n_extra)
    as_it_is = settings.make(profile.override(prewarm=False), None, stream)
    assert [(setting.name, setting.profile.prewarm) for setting in as_it_is] == [("ours", False)]

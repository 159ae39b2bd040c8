"""The VLMEvalKit configurations: their form, as far as it can be checked without VLMEvalKit."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "evals" / "offline"

#: File -> (class, data set) in VLMEvalKit; MVBench knows `fps` only as MVBench_MP4.
BENCHMARKS = {
    "longvideobench": ("LongVideoBench", "LongVideoBench"),
    "mvbench": ("MVBench_MP4", "MVBench_MP4"),
    "videomme": ("VideoMME", "Video-MME"),
}


def test_there_is_one_for_each_benchmark() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == BENCHMARKS.keys()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_two_frames_a_second_to_a_served_model(name: str) -> None:
    config = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert config.keys() == {"model", "data"}
    (model,) = config["model"].values()
    assert model["class"] == "LMDeployAPI"
    assert model["api_base"].endswith("/v1/chat/completions")
    assert (model["video_llm"], model["local_media"], model["temperature"]) == (True, True, 0.0)
    ((label, data),) = config["data"].items()
    assert data == {"class": BENCHMARKS[name][0], "dataset": BENCHMARKS[name][1], "fps": 2.0}
    assert data["dataset"] in label  # VLMEvalKit chooses how to grade by the label

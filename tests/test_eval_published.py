"""Predictions in the forms in which benchmarks' authors publish them, and the command that scores them."""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from evals import omnimmi, ovobench, score, streamingbench
from evals.benchmark import Benchmark, Record, Reply
from evals.published import read
from evals.replies import PredictionError, read_verdicts
from tests.annotations import OMNIMMI, OVOBENCH, STREAMINGBENCH, write


def saved(folder: Path, value: Any, name: str = "file.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def lines(folder: Path, rows: list, name: str = "file.json", dump=json.dumps) -> Path:
    file = folder / name
    file.write_text("".join(dump(row) + "\n" for row in rows), encoding="utf-8")
    return file


def texts(bench: Benchmark, *files: Path, model: str | None = None) -> list[list[str] | None]:
    """The replies found to each item, None where there is no row for it."""
    found = read(bench, files, model)
    return [[r.text for r in found.records[i.id].replies] if i.id in found.records else None for i in bench.items]


class TestStreamingBench:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Benchmark:
        folder = tmp_path / "annotations"
        folder.mkdir()
        return streamingbench.load([write(folder, STREAMINGBENCH)])

    def answered(self, *replies: Any, model: str = "MiniCPM-V") -> dict[str, Any]:
        """Upstream's four files with the replies under the model's name, in order; ... leaves one out."""
        files, left = copy.deepcopy(STREAMINGBENCH), list(replies)
        for value in files.values():
            for entry in value:
                for part in entry if isinstance(entry, list) else [entry]:
                    part["video_path"] = "/somewhere/else/" + part["video_path"]
                    for question in part["questions"]:
                        if (reply := left.pop(0)) is not ...:
                            question[model] = reply
        return files

    def history(self, t: Any, content: Any) -> dict[str, Any]:
        return {"answered": t, "dialog_history": [
            {"role": "user", "content": "?", "time": 21, "cost": 1},
            {"role": "assistant", "content": content, "time": t, "cost": 1},
        ]}  # fmt: skip

    def test_four_files_of_one_model(self, bench: Benchmark, tmp_path: Path):
        files = self.answered("A. a", ["B"], ..., "d", "A", None, self.history(24, "goal"))
        paths = [saved(tmp_path, value, f"{name}_output.json") for name, value in files.items()]
        assert texts(bench, *paths) == [["A. a"], ["B"], None, ["d"], ["A"], [""], ["goal"]]
        result = bench.score(read(bench, paths).records)
        assert [count.correct for count in result.tasks.values()] == [1, 1, 0, 1, 1]
        assert "1 of 7 items have no prediction (CT 1); counted wrong" in result.notes

    def test_one_merged_file(self, bench: Benchmark, tmp_path: Path):
        files = self.answered(*"ABCDAB", self.history("24", ["goal"]))
        found = read(bench, [saved(tmp_path, files)])
        assert bench.score(found.records).overall.accuracy == 1
        assert found.notes == []

    def test_malformed_replies_are_wrong(self, bench: Benchmark, tmp_path: Path):
        files = self.answered(["A", "B"], {"x": 1}, "C", "D", "A", "B", {"dialog_history": []})
        found = read(bench, [saved(tmp_path, files)])
        assert found.notes == ["3 replies are malformed; counted wrong"]
        assert bench.score(found.records).overall.correct == 4

    def test_videos_under_other_names_are_found_by_time_and_question(self, bench: Benchmark, tmp_path: Path):
        text = json.dumps(self.answered(*"ABCDAB", self.history(24, "goal"))).replace("sample_", "clip ")
        assert bench.score(read(bench, [saved(tmp_path, json.loads(text))]).records).overall.accuracy == 1

    def test_of_several_models_one_has_to_be_named(self, bench: Benchmark, tmp_path: Path):
        files = self.answered(*"ABCDAB", self.history(24, "goal"))
        text = json.dumps(files).replace('"MiniCPM-V": "A"', '"MiniCPM-V": "A", "LLaVA": "B"')
        both = saved(tmp_path, json.loads(text))
        with pytest.raises(PredictionError, match="minicpm-v, llava: say which with --model"):
            texts(bench, both)
        assert texts(bench, both, model="LLaVA")[0] == ["B"]
        assert texts(bench, both.rename(tmp_path / "real_output_LLaVA.json"))[0] == ["B"], "the file's name says it"

    def test_the_first_of_two_rows_is_kept(self, bench: Benchmark, tmp_path: Path):
        rows = self.answered(*"ABCDAB", self.history(24, "goal"))["questions_real"]
        again = copy.deepcopy(rows[0])
        again["questions"][0]["MiniCPM-V"] = "D"
        strange = copy.deepcopy(rows[0])
        strange["questions"][0]["question"] = "Never asked?"
        found = read(bench, [saved(tmp_path, [*rows, again, strange])])
        assert found.records["sample_1_real/00:00:05"].replies[0].text == "A"
        assert found.notes == [
            "duplicate row for sample_1_real/00:00:05; first kept",
            "1 rows are about no item of the annotations; left out",
        ]

    def test_annotations_alone_are_no_predictions(self, bench: Benchmark, tmp_path: Path):
        with pytest.raises(PredictionError, match="no predictions"):
            read(bench, [saved(tmp_path, STREAMINGBENCH)])


class TestOVOBench:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Benchmark:
        folder = tmp_path / "annotations"
        folder.mkdir()
        return ovobench.load([write(folder, {"bench": OVOBENCH})])

    def published(self, backward: Any, realtime: Any, *forward: Any) -> dict[str, list]:
        """Upstream's three lists."""
        single = [
            {"id": row["id"], "video": f"data/{row['video']}", "task": row["task"], "question": row["question"],
             "response": reply, "ground_truth": "Z"}
            for row, reply in zip(OVOBENCH, (backward, realtime), strict=False)
        ]  # fmt: skip
        rows, left = copy.deepcopy(OVOBENCH[2:]), list(forward)
        for row in rows:
            for info in row["test_info"]:
                info["response"] = left.pop(0)
        return {"backward": single[:1], "realtime": single[1:], "forward": rows}

    def test_the_three_lists(self, bench: Benchmark, tmp_path: Path):
        file = saved(tmp_path, self.published("B", ["A"], "1", "1 and 2", "Y", None, "No", ["Yes"]))
        assert texts(bench, file) == [["B"], ["A"], ["1", "1 and 2"], ["Y", ""], ["No", "Yes"]]
        assert bench.score(read(bench, [file]).records).tasks["SSR"].correct == 1

    def test_a_folder_of_files_one_for_some_tasks_each(self, bench: Benchmark, tmp_path: Path):
        whole = self.published("B", "A", "1", "12", "Yes", "No", "No", "Yes")
        folder = tmp_path / "results" / "model"
        folder.mkdir(parents=True)
        for name in whole:
            saved(folder, {key: value if key == name else [] for key, value in whole.items()}, f"{name}.json")
        assert bench.score(read(bench, [tmp_path / "results"]).records).overall.accuracy == 1

    def test_numbers_as_text_and_numbers_as_replies(self, bench: Benchmark, tmp_path: Path):
        whole = self.published("B", "A", 1, 12.0, "Yes", "No", "No", "Yes")
        for row in whole["backward"] + whole["forward"]:
            row["id"] = str(row["id"])
        assert texts(bench, saved(tmp_path, whole))[:3] == [["B"], ["A"], ["1", "12.0"]]

    def test_numbers_of_another_edition_are_found_by_video_and_question(self, bench: Benchmark, tmp_path: Path):
        whole = self.published("B", "A", "1", "12", "Yes", "No", "No", "Yes")
        for rows in whole.values():
            for row in rows:
                row["id"] = 4 - row["id"]
        assert bench.score(read(bench, [saved(tmp_path, whole)]).records).overall.accuracy == 1

    def test_duplicates_and_gaps(self, bench: Benchmark, tmp_path: Path):
        whole = self.published("B", "A", "1", "12", "Yes", "No", "No", "Yes")
        whole["backward"].append(whole["backward"][0] | {"response": "A"})
        del whole["forward"][0]["test_info"][0]
        found = read(bench, [saved(tmp_path, whole)])
        assert found.notes == ["duplicate row for 0; first kept"]
        assert found.records["2"].replies == (Reply(5, ""), Reply(8.2, "12"))
        assert bench.score(found.records).overall.correct == 7


class TestOmniMMI:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Benchmark:
        folder = tmp_path / "annotations"
        folder.mkdir()
        return omnimmi.load([write(folder, OMNIMMI)])

    def predicted(self, pa: Any) -> list[dict[str, Any]]:
        rows = copy.deepcopy([row for rows in OMNIMMI.values() for row in rows])
        for row in rows:
            for turn in row.get("qa", [row]):
                turn["pred"] = f"say {turn['answer']}"
        rows[-1]["pred"] = pa
        return rows

    @pytest.mark.parametrize("dump", [json.dumps, repr])
    @pytest.mark.parametrize(("pa", "right"), [([5, 90], 1), (5, 1), ([0], 0), ([], 0), (None, 0), (["x"], 0)])
    def test_lines_of_predictions(self, bench: Benchmark, tmp_path: Path, dump: Any, pa: Any, right: int):
        file = lines(tmp_path, self.predicted(pa), dump=dump)
        assert texts(bench, file)[:3] == [["say flip"], ["say Marie"], ["say cut", "say wind"]]
        assert bench.score(read(bench, [file]).records).tasks["PA"].correct == right

    def judged(self, *yes: str) -> dict[str, list]:
        """Upstream's `results.json`; answers in `yes` are right."""
        results: dict[str, list] = {}
        for number, row in enumerate(self.predicted([5])[:-1]):
            asked = [{key: turn[key] for key in ("question", "answer", "pred")} for turn in row.get("qa", [row])]
            graded = [{"pred": "Yes" if turn["answer"] in yes else "no", "score": 3} for turn in asked]
            name = f"{row['video'].removesuffix('.mp4')}##{number}"
            results[name] = [{"qa": graded}, {"qa": asked}] if "qa" in row else [graded[0], asked[0]]
        return results

    @pytest.mark.parametrize("one_file", [True, False])
    def test_a_judges_results(self, bench: Benchmark, tmp_path: Path, one_file: bool):
        folder, results = tmp_path / "judged", self.judged("flip", "cut", "run", "omelet", "pour")
        folder.mkdir()
        for name, value in {"results": results}.items() if one_file else results.items():
            saved(folder, value, f"{name}.json")
        found = read(bench, [folder, lines(tmp_path, self.predicted([5]))])
        result = bench.score(found.records, found.verdicts)
        assert [c.correct for c in result.tasks.values()] == [1, 1, 1, 0, 1]
        assert [c.correct for c in result.details.values()][:2] == [2, 0]
        assert found.notes == [], "a judge's copy of a reply is no second one"

    def test_verdicts_that_were_skipped_are_noted(self, bench: Benchmark, tmp_path: Path):
        results = self.judged("cut", "wind")
        results["g##2"][0]["qa"].pop(0)
        found = read(bench, [saved(tmp_path, results)])
        assert found.notes == ["SG/0/g: 2 turns but 1 verdicts; taken in their order"]
        assert bench.score(found.records, found.verdicts).tasks["SG"].correct == 0


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The command's exit code and what it prints."""
    parser = argparse.ArgumentParser()
    score.add_command(parser.add_subparsers())
    args = parser.parse_args(["score", *map(str, arguments)])
    return args.run(args), *capsys.readouterr()


def test_score_reads_our_own_journals(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    annotations, out = tmp_path / "annotations", tmp_path / "out"
    annotations.mkdir()
    out.mkdir()
    bench = omnimmi.load([write(annotations, OMNIMMI)])
    rows = [Record(item.id, (Reply(5.0, "yes"), Reply(6.0, "no"))).to_json() for item in bench.items]
    file = lines(out, [{"benchmark": "omnimmi", "protocol": "official"}, *rows], "predictions.jsonl")
    file.write_text(file.read_text(encoding="utf-8") + '{"id": "torn', encoding="utf-8")
    lines(out, [{"key": "AP/0/a#1", "pred": "yes", "score": 5, "prediction": "yes"}], "verdicts.jsonl")
    code, printed, _ = run(capsys, "omnimmi", "--annotations", annotations, "--predictions", out, "--json")
    result = json.loads(printed)
    assert code == 0
    assert {task: figure["correct"] for task, figure in result["tasks"].items()} == {
        "SG": 0, "AP": 1, "MD": 0, "SI": 0, "PA": 1,
    }  # fmt: skip
    assert result["overall"] == {"correct": 2, "total": 6, "accuracy": pytest.approx(0.4)}
    assert any("predictions.jsonl:8 is not JSON" in note for note in result["notes"])
    assert set(result) >= {"benchmark", "overall", "groups", "tasks", "details", "notes"}


def test_score_takes_verdicts_from_a_file_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    bench = omnimmi.load([write(annotations, {"si": OMNIMMI["speaker_identification"]})])
    file = lines(tmp_path, [Record(bench.items[0].id, (Reply(22, "Marie"),)).to_json()], "predictions.jsonl")
    verdicts = saved(tmp_path, {"SI/0/s#1": True}, "verdicts.json")
    code, printed, _ = run(
        capsys, "omnimmi", "--annotations", annotations, "--predictions", file, "--verdicts", verdicts
    )
    assert code == 0
    assert "100.00      1 of 1" in printed
    assert read_verdicts(verdicts) == {"SI/0/s#1": True}


def test_score_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    annotations = write(tmp_path, {"bench": OVOBENCH})
    file = lines(tmp_path, [Record("0", (Reply(21.5, "B"),)).to_json(), {"id": 3, "replies": 1}], "mine.jsonl")
    code, printed, _ = run(capsys, "ovobench", "--annotations", annotations, "--predictions", file)
    assert code == 0
    assert "EPM                100.00      1 of 1" in printed
    assert "note: 4 of 5 items have no prediction" in printed
    assert "note: 1 replies are malformed" in printed


@pytest.mark.parametrize("broken", ["annotations", "predictions", "verdicts"])
def test_score_says_in_one_line_what_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str):
    files = {
        "annotations": write(tmp_path, {"bench": OVOBENCH}),
        "predictions": lines(tmp_path, [Record("0", ()).to_json()], "mine.jsonl"),
        "verdicts": saved(tmp_path, {"0#1": True}, "verdicts.json"),
    }
    for content in (None, b"\xff\xfe\x00", b"[1, 2]"):
        files[broken] = tmp_path / "broken.json"
        if content is not None:
            files[broken].write_bytes(content)
        options = [part for name, file in files.items() for part in (f"--{name}", file)]
        code, printed, error = run(capsys, "ovobench", *options)
        assert (code, printed, error.count("\n")) == (1, "", 1)
        assert error.startswith("error: ")


def test_all_official_questions_are_found_again(shared: Path, tmp_path: Path):
    """A perfect model's files, in upstream's form, over the real annotations: every row finds its own item."""
    folder = shared / "benchmarks"
    for file in folder.glob("streamingbench_*.json"):
        rows = json.loads(file.read_text(encoding="utf-8"))
        for entry in rows:
            for part in entry if isinstance(entry, list) else [entry]:
                for question in part["questions"]:
                    t = streamingbench.seconds(question.get("ground_truth_time_stamp", "0"))
                    last = {"time": t, "content": question.get("ground_truth_output")}
                    question["Model"] = question.get("answer") or {"dialog_history": [last]}
        saved(tmp_path, rows, file.name)
    bench = streamingbench.load([folder])
    found = read(bench, [tmp_path])
    result = bench.score(found.records)
    assert (result.overall.correct, result.details["PO with its text"].correct) == (4500, 250)
    assert found.notes == []

    rows = json.loads((folder / "ovo_bench.json").read_text(encoding="utf-8"))
    for row in rows:
        for info in row.get("test_info", []):
            info["response"] = str(info["count"]) if "count" in info else "NY"[info["type"]]
        if "options" in row:
            row["response"] = chr(ord("A") + row["gt"])
    bench = ovobench.load([folder])
    found = read(bench, [saved(tmp_path, {"all": rows}, "ovo.json")])
    assert (bench.score(found.records).overall.correct, found.notes) == (3035, [])

    bench = omnimmi.load([folder])
    rows = [row for file in folder.glob("omnimmi_*.json") for row in json.loads(file.read_text(encoding="utf-8"))]
    for row in rows:
        for turn in row.get("qa", [row]):
            turn["pred"] = turn["answer"]
    found = read(bench, [lines(tmp_path, rows, "omnimmi.json")])
    result = bench.score(found.records, {claim.key: True for claim in bench.claims(found.records)})
    assert (result.overall.correct, result.overall.accuracy, found.notes) == (1200, 1, [])

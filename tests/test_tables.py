"""The checks of the paper's tables find what is there, nothing in sound rows, and what is broken on purpose."""

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evals import tables
from evals.benchmark import Count, Mean, Result
from evals.consistency import averages, findings, fitting_orders, numerators, own_rules, read, read_row
from evals.paper import MISSING, OBJECTIVE, OMNIMMI, OVOBENCH, OWN, STREAMINGBENCH, TABLES, Table
from tests.command_line import ROOT

CHECKED = (STREAMINGBENCH, OVOBENCH, OMNIMMI, OBJECTIVE)


def rules(table: Table, row: str) -> dict[str, tuple[str, ...]]:
    """The rules that reproduce each average of a row."""
    return {made.column: made.rules for made in averages(table) if made.row == row}


def kinds(table: Table, row: str) -> dict[str, list[tuple[str, ...]]]:
    """The findings of a row: kind -> columns."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for finding in findings(table):
        if finding.row == row:
            found.setdefault(finding.kind, []).append(finding.columns)
    return found


def altered(table: Table, row: str, **cells: str) -> Table:
    return replace(table, rows={**table.rows, row: {**table.rows[row], **cells}})


def printed(k: int, n: int, digits: int) -> str:
    """k of n in percent, rounded with ties upward, without a float."""
    scaled = (Fraction(100 * k, n) * 10**digits + Fraction(1, 2)).__floor__()
    return f"{scaled // 10**digits}.{scaled % 10**digits:0{digits}d}" if digits else str(scaled)


@given(st.data(), st.integers(1, 5000), st.integers(0, 3))
def test_every_true_count_comes_back_from_its_cell(data, n, digits):
    k = data.draw(st.integers(0, n))
    cell = printed(k, n, digits)
    assert k in numerators(cell, n)
    assert set(numerators(cell, n)) <= set(numerators(cell, n, twice=True))
    assert all(printed(other, n, digits) == cell or 200 * other * 10**digits % n == 0 for other in numerators(cell, n))


@given(st.data(), st.integers(1, 5000))
def test_a_figure_that_was_rounded_twice_is_accepted_when_that_is_allowed(data, n):
    k = data.draw(st.integers(0, n))
    hundredths = int(printed(k, n, 2).replace(".", ""))
    assert k in numerators(printed(hundredths, 10_000, 1), n, twice=True)


def test_more_digits_say_more():
    assert len(numerators("50", 2500)) > len(numerators("50.0", 2500)) > len(numerators("50.00", 2500)) == 1


def test_the_simplest_reading_is_taken():
    assert read("52.7", 300).correct == range(158, 159)
    assert read("17.0", 295).how == "rounded twice"
    assert read("56.9", 250, earlier=51).how == "earlier edition"
    assert read("56.9", 250).how == "no count"
    assert read(MISSING, 200).limits == (0, 0)


@given(st.lists(st.sampled_from(["50.0", "33.3", "66.7", "25.0", "10.0"]), min_size=3, max_size=3))
def test_fitting_orders_are_all_of_them(cells):
    sizes = (3, 4, 10)
    every = {p for p in permutations(cells) if all(read(c, n).correct for c, n in zip(p, sizes, strict=True))}
    found = list(fitting_orders(cells, sizes))
    assert set(found) == every
    assert len(found) == len(every)


def test_the_counts_behind_the_paper_s_own_rows():
    counts = {
        1: "321 108 296 274 134 282 93 188 291 92 141 121 157 201 137 177 143 133",
        3: "72 64 23 52 75 158 78 16 112 37 7",
        6: "72 64 23 52 75",
    }
    for table in CHECKED:
        readings = read_row(table, table.rows[OWN]).values()
        assert all(reading.how == "rounded" and len(reading.correct) == 1 for reading in readings)
        if table.number in counts:
            assert [reading.correct[0] for reading in readings] == list(map(int, counts[table.number].split()))


def test_every_table_has_its_own_rule_and_the_paper_s_own_row_follows_it():
    assert set(own_rules(STREAMINGBENCH).values()) == {"items"}
    assert own_rules(OVOBENCH) == {group: "mean of tasks" for group in OVOBENCH.groups} | {"All": "mean of groups"}
    assert own_rules(OMNIMMI) == own_rules(OBJECTIVE) == {"All": "mean of tasks"}
    own = {(table.number, m.column): m for table in CHECKED for m in averages(table) if m.row == OWN}
    assert all(m.own in m.rules and not m.twice for m in own.values())
    expected = {
        (1, "RTVU"): 83.16, (1, "OSU"): 62.0, (1, "CU"): 59.0, (1, "All"): 73.09,
        (2, "RTVP"): 79.82, (2, "BT"): 60.35, (2, "FAR"): 55.82, (2, "All"): 65.33,
        (3, "All"): 25.43, (6, "All"): 25.43,
    }  # fmt: skip
    assert {key: m.value for key, m in own.items()} == pytest.approx(expected, abs=0.006)


def test_sound_rows_have_no_findings():
    for table in CHECKED:
        assert kinds(table, OWN) == {}
    assert kinds(STREAMINGBENCH, "ViSpeak") == kinds(STREAMINGBENCH, "MiniCPM-o-4.5") == {}
    assert kinds(OVOBENCH, "Streamo-7B") == kinds(OMNIMMI, "MiniCPM-o-4.5") == {}
    assert findings(OBJECTIVE) == []


@pytest.mark.parametrize("row", ["GPT-4o", "Gemini-1.5-Pro"])
def test_two_rows_were_taken_on_the_first_edition(row):
    assert kinds(STREAMINGBENCH, row)["earlier edition"] == [("PO",)]
    assert rules(STREAMINGBENCH, row)["CU"] == rules(STREAMINGBENCH, row)["All"] == ("items of the earlier edition",)


def test_rows_with_a_rule_of_their_own_or_none():
    assert rules(STREAMINGBENCH, "StreamAgent")["RTVU"] == ("mean of tasks",)
    assert rules(STREAMINGBENCH, "StreamAgent")["All"] == ("mean of tasks",)
    assert rules(OVOBENCH, "ViSpeak")["All"] == ("mean of tasks",)
    assert kinds(OVOBENCH, "StreamAgent")["no rule"] == [("BT",), ("All",)]
    assert kinds(STREAMINGBENCH, "Gemini-1.5-Pro")["no rule"] == [("OSU",)]


def test_what_is_missing_counts_as_nothing():
    missing = [name for name, row in OMNIMMI.rows.items() if row["PA"] == MISSING]
    assert missing
    for name in missing:
        assert rules(OMNIMMI, name)["All"] == ("mean of tasks",)


def test_a_row_in_the_wrong_order_is_put_right():
    found = {f.columns: f.text for f in findings(OVOBENCH) if f.kind == "order"}
    assert set(found) == {("OCR", "ATR", "STU", "FPD"), ("EPM", "ASI")}
    assert "OCR 68.5, ATR 68.1, STU 54.5, FPD 70.3 (2 of 720 orders fit" in found["OCR", "ATR", "STU", "FPD"]
    assert "EPM 41.1, ASI 58.8 (1 of 6" in found["EPM", "ASI"]


def test_a_swap_shows_by_the_other_rows():
    assert [(f.row, f.columns) for table in CHECKED for f in findings(table) if f.kind == "swap"] == [
        ("GPT-4o", ("REC", "SSR"))
    ]


def test_a_copied_run_shows():
    assert [(f.row, f.columns) for table in CHECKED for f in findings(table) if f.kind == "copy"] == [
        ("M4", ("MD 1st", "MD 2nd", "MD 3rd"))
    ]
    assert kinds(OMNIMMI, "M4")["no count"] == [("MD 2nd", "MD 3rd")]
    line = OMNIMMI.rows["GPT-4o"]
    copied = altered(OMNIMMI, "M4", **{column: line[column] for column in ("AP", "MD 1st", "MD 2nd", "MD 3rd")})
    assert kinds(copied, "M4")["copy"] == [("AP", "MD 1st", "MD 2nd", "MD 3rd")]


@given(st.data())
def test_a_cell_that_no_count_gives_is_found(data):
    table = data.draw(st.sampled_from(CHECKED))
    column = data.draw(st.sampled_from(sorted(table.counted)))
    cell = printed(data.draw(st.integers(0, 1000)), 1000, 1)
    assume(read(cell, table.counted[column], table.earlier.get(column)).how == "no count")
    assert kinds(altered(table, OWN, **{column: cell}), OWN)["no count"] == [(column,)]


@given(st.data())
def test_a_wrong_count_is_found_by_the_averages(data):
    table = data.draw(st.sampled_from([STREAMINGBENCH, OVOBENCH, OMNIMMI]))  # two rows do not tell who is wrong
    column = data.draw(st.sampled_from(sorted(table.tasks)))
    n = table.tasks[column]
    right = read(table.rows[OWN][column], n).correct[0]
    wrong = data.draw(st.integers(0, n))
    assume(abs(wrong - right) > n / 20)  # what is far smaller disappears in the last digit of an average
    assert kinds(altered(table, OWN, **{column: printed(wrong, n, 1)}), OWN)


def test_the_items_are_those_of_the_annotations(shared: Path):
    def load(name: str) -> list:
        return json.loads((shared / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))

    ovo: Counter[str] = Counter()
    for item in load("ovo_bench"):
        ovo[item["task"]] += len(item.get("test_info", [0]))
    assert ovo == OVOBENCH.tasks
    real = Counter(q["task_type"] for video in load("streamingbench_questions_real") for q in video["questions"])
    assert sorted(real.values()) == sorted(STREAMINGBENCH.tasks[task] for task in STREAMINGBENCH.groups["RTVU"])
    for task, name in (("SG", "dynamic_state_grounding"), ("MD", "multiturn_dependency_reasoning")):
        turns = [len(item["qa"]) for item in load(f"omnimmi_{name}")]
        expected = [OMNIMMI.turns[f"{task} {which}"] for which in ("1st", "2nd", "3rd")]
        assert [sum(t >= k for t in turns) for k in (1, 2, 3)] == expected


# The command.


def command(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    tables.add_command(parser.add_subparsers(required=True))
    args = parser.parse_args(["tables", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A run of two tasks of OVO-Bench, one of them on fewer items."""
    tasks = {"OCR": Count(100, 149), "EPM": Count(1, 8)}
    groups = {"RTVP": Mean.of([tasks["OCR"]]), "BT": Mean.of([tasks["EPM"]])}
    made = Result("ovobench", Mean.of(list(groups.values())), groups, tasks, {}, ("only 157 of 1640 items",))
    file = tmp_path / "result.json"
    file.write_text(json.dumps(made.as_json()), encoding="utf-8")
    return file


def test_every_table_is_printed_as_in_the_paper(capsys):
    assert command() == 0
    printed = capsys.readouterr().out
    for table in TABLES:
        assert f"## Table {table.number}: " in printed
        for name, row in table.rows.items():
            cells = r" +\| +".join(map(re.escape, row.values()))
            assert re.search(rf"\| {re.escape(name)} +\| +{cells} \|", printed)


def test_a_result_stands_beside_the_rows(result, capsys):
    assert command("--result", f"ours={result}") == 0
    before, ours, after = re.split(r"^\| ours +(.*)$", capsys.readouterr().out, flags=re.MULTILINE)
    assert "## Table 2" in before
    assert "## Table 3" not in before
    assert ours.replace(" ", "").strip("|").split("|") == [
        *("67.1", *"–––––", "67.1", "12.5", *"––", "12.5", *"––––", "39.8")
    ]
    assert "- ours: only 157 of 1640 items" in after
    assert "- ours: EPM 8 items, in the paper 297" in after
    assert "- ours: without ACR, ATR, STU, FPD, OJR, ASI, HLD, REC, SSR, CRR" in after


def test_json_holds_the_same(result, capsys):
    assert command("--table", 2, "--json", "--result", f"ours={result}") == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert table["rows"][OWN]["All"] == "65.3"
    assert table["counts"][OWN]["CRR"] == {"correct": [147], "total": 240, "how": "rounded"}
    assert {finding["row"] for finding in table["findings"]} >= {"GPT-4o", "Qwen3-VL-8B-Inst."}
    (ours,) = table["results"]
    assert ours["figures"]["OCR"] == {"accuracy": 100 / 149, "total": 149}
    assert ours["figures"]["All"]["accuracy"] == pytest.approx((100 / 149 + 1 / 8) / 2)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "not JSON",
        "[]",
        '{"benchmark": "ovobench"}',
        '{"benchmark": "ovobench", "overall": {"accuracy": 40.0, "total": 5}, "groups": {}, "tasks": {}}',
        '{"benchmark": "ovobench", "overall": {"accuracy": NaN, "total": 5}, "groups": {}, "tasks": {}}',
        '{"benchmark": "ovobench", "overall": {"accuracy": 0.4, "total": 5}, "groups": [], "tasks": {}}',
        '{"benchmark": "another", "overall": {"accuracy": 0.4, "total": 5}, "groups": {}, "tasks": {}}',
    ],
)
def test_a_bad_result_is_one_clear_line(content, tmp_path, capsys):
    file = tmp_path / "bad.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert command("--result", f"ours={file}") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"error: {re.escape(str(file))}.*\n", err)


def test_a_result_without_a_name_is_a_usage_error():
    with pytest.raises(SystemExit) as exit_:
        command("--result", "result.json")
    assert exit_.value.code == 2


def test_a_reader_that_leaves_early_is_no_traceback():
    command = f"{sys.executable} -m evals tables | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("## Table 1: StreamingBench\n", "")

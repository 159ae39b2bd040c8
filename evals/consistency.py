"""Can the printed figures of a table be true together? Arithmetic on what is printed, and nothing else.

An accuracy is a count over a known number of items, so only some figures can be printed at all, and the count comes
back from the figure; an average must follow from its tasks by one rule for the whole table. What breaks either is
found by trying: every rule on every average, every order of the cells of a group. A finding says what does not fit,
not who is to blame. All arithmetic is in fractions, so that a tie is a tie.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from itertools import combinations
from typing import Literal

from evals.paper import MISSING, OWN, Table

Row = Mapping[str, str]


def rounding(cell: str) -> Fraction:
    """Half a unit of the last digit of a cell: how far the figure behind it can be."""
    return Fraction(1, 2 * 10 ** len(cell.partition(".")[2]))


def numerators(cell: str, n: int, twice: bool = False) -> range:
    """Every k for which k of n, in percent, is printed as `cell`; a tie may have been rounded either way. `twice`
    allows for one more digit on the way, as where a published 16.95 (50 of 295 is 16.949) becomes 17.0."""
    value, reach = Fraction(cell), rounding(cell) * (Fraction(11, 10) if twice else 1)
    return range(max(0, math.ceil((value - reach) * n / 100)), min(n, math.floor((value + reach) * n / 100)) + 1)


@dataclass(frozen=True)
class Reading:
    """What can stand behind a cell: `correct` of `total` items; no count at all where it does not fit."""

    cell: str
    how: Literal["rounded", "rounded twice", "earlier edition", "no count", "missing"]
    correct: range
    total: int

    @property
    def limits(self) -> tuple[Fraction, Fraction]:
        """The lowest and highest figure, in percent, behind the cell. What is missing counts as 0."""
        if self.correct:
            return Fraction(100 * self.correct[0], self.total), Fraction(100 * self.correct[-1], self.total)
        if self.how == "missing":
            return Fraction(0), Fraction(0)
        return Fraction(self.cell) - rounding(self.cell), Fraction(self.cell) + rounding(self.cell)


@cache
def read(cell: str, n: int, earlier: int | None = None) -> Reading:
    """The simplest reading of a cell of a task with n items, or as many as an `earlier` edition had."""
    if cell == MISSING:
        return Reading(cell, "missing", range(0), n)
    if found := numerators(cell, n):
        return Reading(cell, "rounded", found, n)
    if found := numerators(cell, n, twice=True):
        return Reading(cell, "rounded twice", found, n)
    if earlier and (found := numerators(cell, earlier)):
        return Reading(cell, "earlier edition", found, earlier)
    return Reading(cell, "no count", range(0), n)


def read_row(table: Table, row: Row) -> dict[str, Reading]:
    """The readings of the counted columns."""
    return {column: read(row[column], n, table.earlier.get(column)) for column, n in table.counted.items()}


# What an average may be. A rule gives each of the tasks its weight, or nothing where it does not apply.

Weights = dict[str, Fraction]


def _by_items(table: Table, tasks: Sequence[str], row: Row, earlier: bool = False) -> Weights:
    sizes = {**table.tasks, **(table.earlier if earlier else {})}
    total = sum(sizes[task] for task in tasks)
    return {task: Fraction(sizes[task], total) for task in tasks}


def _by_tasks(table: Table, tasks: Sequence[str], row: Row, present: bool = False) -> Weights:
    counted = [task for task in tasks if not (present and row[task] == MISSING)]
    return {task: Fraction(1, len(counted)) for task in counted}


def _by_groups(table: Table, tasks: Sequence[str], row: Row) -> Weights:
    groups = [group for group in table.groups.values() if set(group) <= set(tasks)]
    return {task: Fraction(1, len(groups) * len(group)) for group in groups for task in group}


RULES: dict[str, Callable[[Table, Sequence[str], Row], Weights]] = {
    "items": _by_items,
    "items of the earlier edition": partial(_by_items, earlier=True),
    "mean of tasks": _by_tasks,
    "mean of tasks present": partial(_by_tasks, present=True),
    "mean of groups": _by_groups,
}
"""By items: a task weighs as much as it has items. In a mean of tasks a missing one is 0; of those present, left out.
By groups: the mean of the groups' means. In a group of its own that is the mean of its tasks."""


def average(table: Table, row: Row, column: str, rule: str) -> tuple[Fraction, Fraction]:
    """The lowest and highest value of an average by a rule, from the readings of its tasks."""
    readings = read_row(table, row)
    weights = RULES[rule](table, table.averages[column], row)
    low = sum((weight * readings[task].limits[0] for task, weight in weights.items()), Fraction(0))
    high = sum((weight * readings[task].limits[1] for task, weight in weights.items()), Fraction(0))
    return low, high


def reproduces(table: Table, row: Row, column: str, rule: str, twice: bool = False) -> bool:
    """Whether a rule gives the average that is printed; `twice` as in `numerators`."""
    low, high = average(table, row, column, rule)
    reach = rounding(row[column]) * (Fraction(11, 10) if twice else 1)
    return low - reach <= Fraction(row[column]) <= high + reach


@dataclass(frozen=True)
class Average:
    """A printed average: the rules that reproduce it (if need be only when rounded twice), the table's own first, and
    what the own one gives, in percent. Of rules that come to the same weights one is given."""

    row: str
    column: str
    printed: str
    rules: tuple[str, ...]
    twice: bool
    own: str
    value: float


def own_rule(table: Table, columns: Sequence[str]) -> str:
    """The rule of these averages: the one that reproduces most of them, the paper's own row deciding a draw."""

    def fits(rule: str) -> tuple[int, int]:
        rows = {name: sum(reproduces(table, row, c, rule) for c in columns) for name, row in table.rows.items()}
        return sum(rows.values()), rows.get(OWN, 0)

    return max(RULES, key=fits)


def own_rules(table: Table) -> dict[str, str]:
    """The table's own rule for each of its averages; groups share one."""
    groups = dict.fromkeys(table.groups, own_rule(table, tuple(table.groups))) if table.groups else {}
    return groups | ({table.overall: own_rule(table, (table.overall,))} if table.overall else {})


def averages(table: Table) -> list[Average]:
    """Every printed average with the rules behind it, row by row."""
    own = own_rules(table)
    return [_explain(table, name, column, own[column]) for name in table.rows for column in own]


def _explain(table: Table, name: str, column: str, own: str) -> Average:
    row, tasks = table.rows[name], table.averages[column]
    different: dict[str, Weights] = {}
    for rule in (own, *RULES):
        weights = RULES[rule](table, tasks, row)
        if weights not in different.values():
            different[rule] = weights
    once, again = ([r for r in different if reproduces(table, row, column, r, twice)] for twice in (False, True))
    value = float(sum(average(table, row, column, own)) / 2)
    return Average(name, column, row[column], tuple(once or again), not once and bool(again), own, value)


@dataclass(frozen=True)
class Finding:
    """Something printed in a row that does not fit, or only with an explanation."""

    row: str
    columns: tuple[str, ...]
    kind: Literal["rounded twice", "earlier edition", "no count", "another rule", "no rule", "order", "swap", "copy"]
    text: str


def findings(table: Table) -> list[Finding]:
    """All that does not fit in a table, row by row."""
    own, explained, copied = own_rules(table), averages(table), list(copies(table))
    made: list[Finding] = []
    for name in table.rows:
        made += _of_cells(name, read_row(table, table.rows[name]), table.counted)
        made += list(orders(table, name, own)) or list(swaps(table, name))
        made += [finding for finding in copied if finding.row == name]
        made += [finding for average in explained if average.row == name for finding in _of_average(average)]
    return made


def _of_cells(row: str, readings: Mapping[str, Reading], sizes: Mapping[str, int]) -> Iterator[Finding]:
    def having(how: str) -> dict[str, Reading]:
        return {column: reading for column, reading in readings.items() if reading.how == how}

    if odd := having("no count"):
        cells = ", ".join(f"{column} {reading.cell} ({sizes[column]})" for column, reading in odd.items())
        yield Finding(row, tuple(odd), "no count", f"no count of the items in brackets: {cells}")
    for column, reading in having("earlier edition").items():
        cell, k, n = reading.cell, reading.correct[0], reading.total
        text = f"{column} {cell} is no count of {sizes[column]} items but {k} of an earlier edition's {n}"
        yield Finding(row, (column,), "earlier edition", text)
    for column, reading in having("rounded twice").items():
        cell, k, n = reading.cell, reading.correct[0], reading.total
        text = f"{column} {cell} is {k} of {n}, {100 * k / n:.3f}, rounded twice"
        yield Finding(row, (column,), "rounded twice", text)


def _of_average(made: Average) -> Iterator[Finding]:
    columns, by_own = (made.column,), f"the table's own rule ({made.own}) gives {made.value:.2f}"
    twice = ", rounded twice" if made.twice else ""
    if not made.rules:
        yield Finding(made.row, columns, "no rule", f"{made.column} {made.printed} follows no rule; {by_own}")
    elif made.own not in made.rules:
        text = f"{made.column} {made.printed} follows another rule ({' or '.join(made.rules)}{twice}); {by_own}"
        yield Finding(made.row, columns, "another rule", text)
    elif made.twice:
        text = f"{made.column} {made.printed} is {made.value:.4f} by the table's own rule ({made.own}){twice}"
        yield Finding(made.row, columns, "rounded twice", text)


def copies(table: Table, length: int = 3) -> Iterator[Finding]:
    """Runs of at least so many cells that stand twice in a table. The later one is named."""
    cells = [(name, column, row[column]) for name, row in table.rows.items() for column in table.columns]

    def same(a: int, b: int) -> bool:
        return cells[a][2] == cells[b][2]

    def run(a: int, b: int) -> int:
        """How long the runs from a and b are equal; neither leaves its row nor reaches the other."""
        width = len(table.columns)
        room = min(b - a, width - a % width, width - b % width)
        return next((i for i in range(room) if not same(a + i, b + i)), room)

    for a, b in combinations(range(len(cells)), 2):
        continues = a % len(table.columns) and b % len(table.columns) and same(a - 1, b - 1)
        if not continues and (size := run(a, b)) >= length:
            first, again = (tuple(column for _, column, _ in cells[i : i + size]) for i in (a, b))
            printed = " ".join(cell for *_, cell in cells[b : b + size])
            where = f"{first[0]} to {first[-1]}" + (f" of {cells[a][0]}" if cells[a][0] != cells[b][0] else "")
            text = f"{again[0]} to {again[-1]} ({printed}) repeat {where}"
            yield Finding(cells[b][0], again, "copy", text)


def fitting_orders(cells: Sequence[str], sizes: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Every order of the cells in which each is a count of the items at its place; equal cells count as one."""
    if not sizes:
        yield ()
        return
    for cell in dict.fromkeys(cells):
        if read(cell, sizes[0]).correct:
            rest = list(cells)
            rest.remove(cell)
            for others in fitting_orders(rest, sizes[1:]):
                yield (cell, *others)


def orders(table: Table, name: str, own: Mapping[str, str]) -> Iterator[Finding]:
    """Groups of a row that do not fit as printed but do in another order, which gives their printed average by the
    table's `own` rules. Of several such orders the one that moves the fewest cells is given."""
    row = table.rows[name]
    for column, tasks in (table.groups or table.averages).items():
        cells, sizes = [row[task] for task in tasks], [table.tasks[task] for task in tasks]
        if all(read(cell, n).correct for cell, n in zip(cells, sizes, strict=True)):
            continue
        fitting = [
            dict(zip(tasks, order, strict=True))
            for order in fitting_orders(cells, sizes)
            if reproduces(table, {**row, **dict(zip(tasks, order, strict=True))}, column, own[column])
        ]
        if not fitting:
            continue
        moves = [{task: cell for task, cell in order.items() if cell != row[task]} for order in fitting]
        moved = min(moves, key=len)
        count = math.factorial(len(tasks))
        chance = count * math.prod(_share(n) for n in sizes)
        text = (
            f"{column} does not fit as printed but as {', '.join(f'{task} {cell}' for task, cell in moved.items())}"
            f" ({len(fitting)} of {count} orders fit; {chance:.2g} would by chance)"
        )
        yield Finding(name, tuple(moved), "order", text)


def _share(n: int) -> float:
    """The share of all figures with one decimal that are a count of n items, rounded once or twice."""
    return min(1.0, 1.1 * (n + 1) / 1001)


def swaps(table: Table, name: str) -> Iterator[Finding]:
    """Two tasks of a group whose cells lie outside all that the other rows have there, and inside when swapped. Shows
    a swap where no order can: where the items behind a row were not those of the annotations, so that a cell is no
    count. Needs three other rows."""
    row, others = table.rows[name], [other for key, other in table.rows.items() if key != name]
    if len(others) < 3:
        return

    def limits(task: str) -> tuple[float, float]:
        figures = [float(other[task]) for other in others if other[task] != MISSING]
        return min(figures), max(figures)

    def inside(cell: str, task: str) -> bool:
        low, high = limits(task)
        return low <= float(cell) <= high

    odd = {column for column, reading in read_row(table, row).items() if reading.how == "no count"}
    for tasks in table.groups.values():
        for a, b in combinations(tasks, 2):
            if MISSING in (row[a], row[b]) or not odd & {a, b} or inside(row[a], a) or inside(row[b], b):
                continue
            if inside(row[a], b) and inside(row[b], a):
                ranges = " and ".join("{:.1f} to {:.1f}".format(*limits(task)) for task in (a, b))
                text = f"{a} {row[a]} and {b} {row[b]} fit among the other rows ({ranges}) only when swapped"
                yield Finding(name, (a, b), "swap", text)

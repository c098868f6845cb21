"""Tables of scores with one factor changed, such as the base learning rate: text in cells, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ganno_bench.core.records import Factor
from ganno_bench.leaderboard.tables import Column, TextTable, estimate
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.robustness import OWN, Robustness, Setting, VariedCell, VariedEntry

__all__ = [
    "FACTORS",
    "robustness_csv",
    "robustness_footer",
    "robustness_remarks",
    "robustness_table",
    "robustness_terms",
    "setting_label",
    "setting_table",
    "short_label",
]

FACTORS: dict[Factor, str] = {
    "base_lr": "base learning rate",
    "weight_decay": "weight decay",
    "horizon": "horizon",
    "batch_size": "batch size",
}
"""Factor -> its name in texts."""

_SHORT: dict[Factor, str] = {"base_lr": "Base lr", "weight_decay": "Decay", "horizon": "Horizon", "batch_size": "Batch"}

_CSV_COLUMNS = (
    "entry", "ruleset", "workload", "factor", "multiple", "score", "score_low", "score_high", "test_loss", "diverged",
    "runs",
)  # fmt: skip


def setting_label(setting: Setting) -> str:
    """Return a setting as text, such as `horizon 4x`."""
    return "own" if setting.factor is None else f"{FACTORS[setting.factor]} {setting.multiple:g}x"


def robustness_table(found: Robustness) -> TextTable:
    """Return a row for each entry: its own score, the mean per factor and over all settings, and the worst setting."""
    factors = list(found.factors)
    columns = (
        Column("Entry", numeric=False),
        Column("Own"),
        *(Column(_SHORT[factor]) for factor in factors),
        Column("Mean"),
        Column("Worst"),
        Column("at", numeric=False),
    )
    rows = tuple(
        (
            _label(entry, found),
            f"{entry.overall[OWN].score:+z.1f}",
            *(f"{entry.factors[factor]:+z.1f}" for factor in factors),
            estimate(entry.mean, entry.low, entry.high),
            f"{entry.worst.score:+z.1f}",
            short_label(entry.worst.setting),
        )
        for entry in found.entries
    )
    measures = [
        [entry.overall[OWN].score for entry in found.entries],
        *([entry.factors[factor] for entry in found.entries] for factor in factors),
        [entry.mean for entry in found.entries],
        [entry.worst.score for entry in found.entries],
    ]
    best = {
        (row, column)
        for column, scores in enumerate(measures, start=1)
        for row, value in enumerate(scores)
        if value == max(scores)
    }
    title = "Robustness: mean scores with one factor changed"
    return TextTable(title, columns, rows, frozenset(best), frozenset(), frozenset())


def setting_table(found: Robustness) -> TextTable:
    """Return every setting with every entry's score, the best highlighted; means over the workloads."""
    columns = (
        Column("Setting", numeric=False),
        Column("Entry", numeric=False),
        Column("Score (mean)"),
        Column("Diverged"),
    )
    cells: list[tuple[str, ...]] = []
    best, rules = set(), set()
    for setting in (OWN, *found.settings):
        rules.add(len(cells))
        ordered = sorted(found.entries, key=lambda entry: (-entry.overall[setting].score, entry.entry))
        best.add((len(cells), 2))
        for index, entry in enumerate(ordered):
            cell = entry.overall[setting]
            label = "" if index else setting_label(setting)
            score = estimate(cell.score, cell.low, cell.high)
            cells.append((label, _label(entry, found), score, f"{cell.diverged}/{cell.n_runs}"))
    title = "Robustness, setting by setting"
    return TextTable(title, columns, tuple(cells), frozenset(best), frozenset(), frozenset(rules))


def robustness_footer(found: Robustness) -> list[str]:
    """Return terms and remarks; one item per line."""
    return [*(f"{term}: {meaning}" for term, meaning in robustness_terms(found)), *robustness_remarks(found)]


def robustness_terms(found: Robustness) -> list[tuple[str, str]]:
    """Return (term, meaning) for the columns of the table of entries."""
    seeds = f"{found.n_seeds} report seed{'' if found.n_seeds == 1 else 's'}"
    workloads = f" and over the {len(found.workloads)} workloads" if len(found.workloads) > 1 else ""
    multiples = [
        (_SHORT[factor], f"mean score with the {FACTORS[factor]} times {_alternatives(settings)}.")
        for factor, settings in found.factors.items()
    ]
    terms = [
        (
            "Own",
            f"score with no factor changed, on the same {seeds}. Score 0: tuned {REFERENCE}, no factor changed.",
        ),
        *multiples,
        ("Mean", f"mean of the {len(found.settings)} settings, each over runs{workloads}; own is not one of them."),
        ("Worst", "score of the setting with the lowest score, which is in the last column."),
    ]
    if any(entry.low is not None for entry in found.entries):
        terms.append(("[..]", "95 % confidence interval, from a bootstrap over the report seeds of each workload."))
    return terms


def _alternatives(settings: Sequence[Setting]) -> str:
    *others, last = (f"{setting.multiple:g}" for setting in settings)
    return f"{', '.join(others)} or {last}" if others else last


def robustness_remarks(found: Robustness) -> list[str]:
    """Return what a reader must know about the scores; one item per line."""
    longer = any(setting.factor == "horizon" and setting.multiple > 1 for setting in found.settings)
    gain = f"Scores compare with tuned {REFERENCE} at its own horizon, so a longer horizon raises most scores."
    return [*[gain] * longer, *found.notes]


def robustness_csv(found: Robustness) -> str:
    """Return a line for each entry, workload (and `overall`) and setting; an empty factor means that none was changed.

    Losses are in nats, with six significant digits; an empty field means that there is no value.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for entry in found.entries:
        for workload, cells in {"overall": entry.overall, **entry.cells}.items():
            for setting, cell in cells.items():
                named = (entry.entry, entry.ruleset, workload, setting.factor or "", f"{setting.multiple:g}")
                writer.writerow((*named, *_numbers(cell), cell.diverged, cell.n_runs))
    return out.getvalue()


def _numbers(cell: VariedCell) -> list[str]:
    values = (cell.score, cell.low, cell.high, cell.test_loss)
    return ["" if value is None else format(value, ".6g") for value in values]


def _label(entry: VariedEntry, found: Robustness) -> str:
    twice = sum(other.entry == entry.entry for other in found.entries) > 1
    return f"{entry.entry} ({entry.ruleset})" if twice else entry.entry


def short_label(setting: Setting) -> str:
    """Return a setting as a short text, such as `base lr 10x`."""
    return (
        setting_label(setting) if setting.factor is None else f"{_SHORT[setting.factor].lower()} {setting.multiple:g}x"
    )

"""What the README claims is what the committed records say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganno_bench.baselines.files import BaselineFolder, read_baselines
from ganno_bench.scoring.comparison import against_each_study, committed_alone, complete_workloads
from ganno_bench.workloads.suite import load_suite

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow(group="pages")
def test_what_the_readme_says_below_the_picture_holds() -> None:
    """A verdict holds against every tuning study of cosine, or against one of them at least."""

    def verdicts(suite: str, ruleset: str, entry: str) -> set[str]:
        baselines = read_baselines(suite, load_suite(suite).hash, BaselineFolder())
        found = set()
        for comparison in against_each_study(committed_alone(baselines, complete_workloads(baselines))).values():
            (row,) = [
                row for row in comparison.standings().tables[ruleset] if (row.entry, row.kind) == (entry, "entry")
            ]
            assert row.iqm_low is not None
            assert row.iqm_high is not None
            found.add("wins" if row.iqm_low > 0 else "loses" if row.iqm_high < 0 else "ties")
        return found

    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "(`wsd`) beats tuned cosine on `vision`, `text` and `robustness`, and is ahead or level on `graph`" in readme
    for suite in ("vision", "text", "robustness"):
        assert verdicts(suite, "tuned", "wsd") == {"wins"}
    assert verdicts("graph", "tuned", "wsd") == {"wins", "ties"}
    assert (
        "beats tuned cosine on `robustness`, is ahead or level on `graph` and `vision`, and loses on `text`" in readme
    )
    for suite, expected in (("robustness", {"wins"}), ("text", {"loses"})):
        assert verdicts(suite, "zero-shot", "policy:ganno-anchored") == expected
    for suite in ("graph", "vision"):
        assert verdicts(suite, "zero-shot", "policy:ganno-anchored") == {"wins", "ties"}
    assert "An untuned cosine loses everywhere" in readme
    for suite in ("vision", "text", "graph", "robustness"):
        assert verdicts(suite, "zero-shot", "cosine@default") == {"loses"}
    assert "`ganno-anchored` is worse on three suites and better on `text`" in readme
    for suite in ("vision", "text", "graph", "robustness"):
        baselines = read_baselines(suite, load_suite(suite).hash, BaselineFolder())
        rows = committed_alone(baselines, complete_workloads(baselines)).standings().tables["zero-shot"]
        ranks = {row.entry: row.rank for row in rows if row.rank is not None}
        better = ranks["policy:ganno-anchored"] < ranks["mean-curve:ganno-anchored"]
        assert better == (suite != "text")

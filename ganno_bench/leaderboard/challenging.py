"""Write a challenge: a claim that an entry's result is wrong, with evidence."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path

from ganno_bench.baselines.files import record_lines, slug
from ganno_bench.core.errors import SubmissionError
from ganno_bench.core.files import replace_file
from ganno_bench.core.records import compact_record, read_records
from ganno_bench.leaderboard.challenges import ChallengeInfo
from ganno_bench.leaderboard.known import KnownSuites
from ganno_bench.leaderboard.submissions import is_slug, submission_folders
from ganno_bench.leaderboard.untrusted import parse_model
from ganno_bench.leaderboard.validate import check_challenge

__all__ = ["challenge"]


def challenge(
    suite: str,
    entry: str,
    root: Path,
    *,
    name: str,
    claim: str,
    by: str,
    summary: str,
    command: str,
    url: str = "",
    run_dir: Path | None = None,
    suites: KnownSuites | None = None,
) -> list[Path]:
    """Write an open challenge of an entry and return its files.

    Args:
        suite: Name of the suite.
        entry: Name of a submission or of a committed baseline.
        root: The leaderboard's folder.
        name: Name of the challenge among the challenges of the entry.
        claim: The claim of the entry that is challenged.
        by: Author of the challenge.
        summary: Why the claim is wrong.
        command: Command that shows the evidence.
        url: Web address with more information.
        run_dir: A run directory whose report and varied runs support the challenge.
        suites: The project's suites.

    Raises:
        SubmissionError: The challenge breaks a rule or exists; nothing was written.
        UserError: The run directory cannot be read.
    """
    suites = suites or KnownSuites()
    data = {
        "suite": suite,
        "entry": entry,
        "claim": claim,
        "by": by,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "summary": summary,
        "evidence": {"command": command, "url": url},
    }
    info, wrong = parse_model(ChallengeInfo, data)
    if info is None:
        raise SubmissionError(f"challenge: {wrong[0]}")
    if not is_slug(name):
        raise SubmissionError(
            f"option --name: must have lower-case letters, digits, dots and hyphens only (value: {name!r})"
        )
    texts = {f"{name}.toml": info.text()}
    if run_dir is not None:
        runs = [r for r in read_records([run_dir]) if r.role != "tuning" and r.workload in suites.load(suite).workloads]
        if not runs:
            raise SubmissionError(f"{run_dir}: has no report runs on the workloads of suite {suite!r}")
        texts[f"{name}.jsonl"] = record_lines([compact_record(run) for run in runs])
    folder = root / "challenges" / suite / slug(entry)
    there = [folder / file for file in texts if (folder / file).exists()]
    if there:
        raise SubmissionError(f"{there[0]}: exists; give another --name")
    submissions = {(path.parent.name, path.name) for path in submission_folders(root)}
    with tempfile.TemporaryDirectory() as draft:
        for file, text in texts.items():
            replace_file(Path(draft) / file, text)
        toml = Path(draft) / f"{name}.toml"
        verdict = check_challenge(toml, suite, slug(entry), submissions, suites, f"challenges/{suite}/{slug(entry)}")
    if verdict.faults:
        more = f" (and {verdict.n_faults - 1} more)" if verdict.n_faults > 1 else ""
        raise SubmissionError(f"{verdict.faults[0]}{more}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in reversed(texts.items()):  # the runs first: they have no effect without the challenge
            replace_file(folder / file, text)
    except OSError as error:
        raise SubmissionError(f"{folder}: cannot be written: {error.strerror}") from None
    return [folder / file for file in texts]

"""`ganno-bench leaderboard`: submissions and challenges, written and checked; tables and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ganno_bench.cli.options import BaselinesDir

__all__ = ["app"]

app = typer.Typer(
    help="Submit, challenge and check results; build the leaderboard.",
    no_args_is_help=True,
)

_Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="Folder of the leaderboard. Default: ./leaderboard, or else the checkout's.", metavar="DIR"
    ),
]


@app.callback()
def _options() -> None:
    pass


@app.command("submit")
def submit(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(help="Run directory. Several are independent tuning studies of one entry.", metavar="RUN_DIR"),
    ],
    name: Annotated[
        str, typer.Option(help="Name on the leaderboard: lower-case letters, digits, dots, hyphens.", metavar="NAME")
    ],
    description: Annotated[str, typer.Option(help="Description in one line.", metavar="TEXT")],
    author: Annotated[str, typer.Option(help="Author of the submission.", metavar="TEXT")] = "",
    url: Annotated[str, typer.Option(help="Address of the code or a paper.", metavar="URL")] = "",
    scheduler: Annotated[
        str | None, typer.Option(help="Scheduler to submit; needed if the run has several.", metavar="ENTRY")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of all submissions.", metavar="DIR")] = Path(
        "leaderboard/submissions"
    ),
) -> None:
    """Write a run of a suite as a submission: a folder for a pull request. The command sends nothing."""
    from ganno_bench.leaderboard.submit import submit as write

    written = write(run_dirs, out, name=name, description=description, author=author, url=url, scheduler=scheduler)
    typer.echo(f"{written.path}: {', '.join(written.files)}")
    typer.echo(written.verdict.summary)
    typer.echo("Next, in a checkout of the project, on a new branch:")
    typer.echo(f"  git add {written.path}")
    typer.echo(f"  git commit -m 'Submission: {written.path.name} on {written.path.parent.name}'")
    typer.echo("Then open a pull request.")


@app.command("challenge")
def challenge(
    suite: Annotated[str, typer.Argument(help="Name of the suite.", metavar="SUITE")],
    entry: Annotated[str, typer.Argument(help="Name of a submission or a baseline.", metavar="ENTRY")],
    name: Annotated[
        str, typer.Option(help="Name of the challenge: lower-case letters, digits, dots, hyphens.", metavar="NAME")
    ],
    claim: Annotated[str, typer.Option(help="Claim of the entry, in one line.", metavar="TEXT")],
    by: Annotated[str, typer.Option(help="Author of the challenge.", metavar="TEXT")],
    summary: Annotated[str, typer.Option(help="Why the claim is wrong.", metavar="TEXT")],
    command: Annotated[str, typer.Option(help="Command that shows that it is wrong.", metavar="TEXT")],
    url: Annotated[str, typer.Option(help="Address with more details.", metavar="URL")] = "",
    records: Annotated[
        Path | None, typer.Option(help="Run directory whose report runs show that it is wrong.", metavar="RUN_DIR")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the leaderboard.", metavar="DIR")] = Path("leaderboard"),
) -> None:
    """Write a challenge of a result: a file for a pull request. The leaderboard shows it next to the entry."""
    from ganno_bench.leaderboard.challenging import challenge as write

    files = write(
        suite, entry, out, name=name, claim=claim, by=by, summary=summary, command=command, url=url, run_dir=records
    )
    for file in files:
        typer.echo(file)
    typer.echo("Next, in a checkout of the project: commit it on a new branch and open a pull request.")


@app.command("validate")
def validate(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a leaderboard or of one submission. Default: ./leaderboard, or else the checkout's.",
            metavar="PATH",
        ),
    ] = None,
    replay: Annotated[
        bool,
        typer.Option(
            "--replay/--no-replay", help="Whether to ask Optuna for the trials again, if its version is the same."
        ),
    ] = True,
) -> None:
    """Check submissions and challenges: format, budget, seeds, and whether the results are plausible.

    Exit code 2 means that there are faults.
    """
    from ganno_bench.core.resources import leaderboard_dir
    from ganno_bench.leaderboard.validate import check_leaderboard

    root = path or leaderboard_dir()
    checked = check_leaderboard(root, replay=replay)
    for verdict in checked.verdicts:
        for fault in verdict.faults:
            typer.echo(fault)
        if not verdict.n_faults:
            typer.echo(f"{verdict.name}: ok; {verdict.summary}")
    typer.echo(
        f"{root}: {len(checked.submissions)} valid submissions, {len(checked.challenges)} valid challenges, "
        f"{checked.n_faults} faults"
    )
    if checked.n_faults:
        raise typer.Exit(2)


@app.command("build")
def build(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; list stale files. Exit code 1 means that there are some.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="With --check: do not draw plots again; compare only the records that they were made from."
        ),
    ] = False,
    folder: _Folder = None,
    baselines: BaselinesDir = None,
) -> None:
    """Build README.md, tables and site of the leaderboard from committed records."""
    from ganno_bench.baselines.files import BaselineFolder
    from ganno_bench.core.resources import leaderboard_dir
    from ganno_bench.leaderboard.build import committed_boards, stale_files, write_leaderboard

    root = folder or leaderboard_dir()
    boards, pending = committed_boards(BaselineFolder(baselines), root)
    if not check:
        paths = write_leaderboard(root, boards, pending)
        typer.echo(f"{root}: {len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB")
        return
    stale = stale_files(root, boards, pending, redraw=not quick)
    for line in stale:
        typer.echo(f"stale    {line}")
    if stale:
        files = "1 stale file" if len(stale) == 1 else f"{len(stale)} stale files"
        typer.echo(f"{root}: {files}; run: ganno-bench leaderboard build")
        raise typer.Exit(1)
    typer.echo(f"{root}: up to date")

"""`ganno-bench leaderboard`: submissions and challenges, written and checked; tables and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ganno_bench.cli.options import BaselinesDir

__all__ = ["app"]

app = typer.Typer(
    help="Submit results, challenge and check them; build tables and pages from what is committed.",
    no_args_is_help=True,
)

_Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="The leaderboard's folder. Default: ./leaderboard, or else the checkout's.", metavar="DIR"
    ),
]


@app.callback()
def _options() -> None:
    pass


@app.command("submit")
def submit(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(help="Run directory; several ones are independent tuning studies.", metavar="RUN_DIR"),
    ],
    name: Annotated[str, typer.Option(help="Name on the leaderboard: lower-case letters, digits, dots, hyphens.")],
    description: Annotated[str, typer.Option(help="One line.")],
    author: Annotated[str, typer.Option(help="Who submits it.")] = "",
    url: Annotated[str, typer.Option(help="Where code or a paper lies.")] = "",
    scheduler: Annotated[
        str | None, typer.Option(help="Which scheduler, where the run has several.", metavar="ENTRY")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the submissions.", metavar="DIR")] = Path(
        "leaderboard/submissions"
    ),
) -> None:
    """Write a run of a suite as a submission: a folder for a pull request. Nothing is sent anywhere."""
    from ganno_bench.leaderboard.submit import submit as write

    written = write(run_dirs, out, name=name, description=description, author=author, url=url, scheduler=scheduler)
    typer.echo(f"{written.path}: {', '.join(written.files)}")
    typer.echo(written.verdict.summary)
    typer.echo("Next, in a checkout of the project, on a branch of your own:")
    typer.echo(f"  git add {written.path}")
    typer.echo(f"  git commit -m 'Submission: {written.path.name} on {written.path.parent.name}'")
    typer.echo("and open a pull request with it.")


@app.command("challenge")
def challenge(
    suite: Annotated[str, typer.Argument(help="Name of the suite.", metavar="SUITE")],
    entry: Annotated[str, typer.Argument(help="Name of a submission, or of a baseline.", metavar="ENTRY")],
    name: Annotated[str, typer.Option(help="Name of the challenge: lower-case letters, digits, dots, hyphens.")],
    claim: Annotated[str, typer.Option(help="What the entry claims. One line.")],
    by: Annotated[str, typer.Option(help="Who says that it does not hold.")],
    summary: Annotated[str, typer.Option(help="Why it does not hold.")],
    command: Annotated[str, typer.Option(help="Command that shows it.")],
    url: Annotated[str, typer.Option(help="Where more is said.")] = "",
    records: Annotated[
        Path | None, typer.Option(help="Run directory whose report runs show it.", metavar="RUN_DIR")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the leaderboard.", metavar="DIR")] = Path("leaderboard"),
) -> None:
    """Challenge an entry's result: a file for a pull request, which the leaderboard shows beside the entry."""
    from ganno_bench.leaderboard.challenging import challenge as write

    files = write(
        suite, entry, out, name=name, claim=claim, by=by, summary=summary, command=command, url=url, run_dir=records
    )
    for file in files:
        typer.echo(file)
    typer.echo("Next, in a checkout of the project: add it to a branch of your own and open a pull request.")


@app.command("validate")
def validate(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a leaderboard, or of one submission. Default: ./leaderboard, or else the checkout's.",
            metavar="PATH",
        ),
    ] = None,
    replay: Annotated[
        bool,
        typer.Option(
            "--replay/--no-replay", help="Ask the sampler for the trials again, where it is the same version."
        ),
    ] = True,
) -> None:
    """Check submissions and challenges: their form, the suite's budget and seeds, whether results are possible."""
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
    check: Annotated[bool, typer.Option("--check", help="Change nothing; list what is stale.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="With --check: compare drawings by what they were made from alone.")
    ] = False,
    folder: _Folder = None,
    baselines: BaselinesDir = None,
) -> None:
    """Write README.md, tables and site of the leaderboard from committed records, and from nothing else."""
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

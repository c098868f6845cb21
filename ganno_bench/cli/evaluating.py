"""`ganno-bench evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ganno_bench.cli.options import DataDirs, Device

if TYPE_CHECKING:
    from ganno_bench.api import EvaluationReport

__all__ = ["evaluate"]


def evaluate(
    policy: Annotated[
        str,
        typer.Argument(
            help="Folder of a policy, or the name of a shipped policy ('ganno-bench list schedulers').",
            metavar="POLICY",
        ),
    ],
    suite: Annotated[str, typer.Option(help="Name of a suite, or path to a TOML file.", metavar="SUITE")] = "transfer",
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Another scheduler to compare with, as in 'run --scheduler'. Repeat the option for several.",
            metavar="NAME",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Optuna trials for each rival on each workload. Default: the suite's.", metavar="N"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Report seeds. Default: the suite's.", metavar="N")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for records, tables and plots. Default: runs/evaluate/NAME.", metavar="DIR"),
    ] = None,
    rivals: Annotated[
        Path | None,
        typer.Option(
            help="Run directory of the rivals; several policies can share it. Default: rivals in --out.", metavar="DIR"
        ),
    ] = None,
    data_dir: DataDirs = None,
    device: Device = "cpu",
) -> None:
    """Measure how well a frozen policy generalises to other depths, data and model families.

    Results contain validation losses only, no test losses, so you can use them while you develop a policy.

    An interrupted evaluation resumes with the same command.
    If the policy has changed, it runs again, but its rivals do not.
    """
    from ganno_bench.cli.display import run_display

    with run_display(suite) as display:
        from ganno_bench.api import evaluate_with_settings
        from ganno_bench.bench.evaluation import EvaluationSettings

        settings = EvaluationSettings(
            policy=policy,
            suite=suite,
            against=tuple(against or ()),
            trials=trials,
            seeds=seeds,
            out=out,
            rivals=rivals,
            data_dirs=tuple(data_dir or ()),
            device=device,
        )
        report = evaluate_with_settings(settings, display)
    _print(report)
    if report.evaluation.failures:
        raise typer.Exit(1)


def _print(report: EvaluationReport) -> None:
    from ganno_bench.cli.console import wide_console
    from ganno_bench.leaderboard.evaluation import headline_of
    from ganno_bench.leaderboard.evaluation_tables import matrix_table, summary_table
    from ganno_bench.leaderboard.terminal import Paragraph, TerminalTable

    console = wide_console()
    for line in headline_of(report.evaluation):
        console.print(Paragraph(line, style="dim"))
    if report.cells:
        for table in (summary_table, matrix_table):
            console.print()
            console.print(TerminalTable(table(report.evaluation, report.cells)))
        console.print()
        for remark in dict.fromkeys(cell.remark for cell in report.cells if cell.remark):
            console.print(Paragraph(remark, style="dim"))
    for what, path in report.files.items():
        console.print(f"{what:<10}{path}", soft_wrap=True)
    if report.evaluation.failures:
        n = len(report.evaluation.failures)
        console.print(
            f"{n} failed (each: an entry on a workload); see {report.files['page']}",
            style="red",
            soft_wrap=True,
        )

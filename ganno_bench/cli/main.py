"""`ganno-bench`: its commands, and its error messages."""

from __future__ import annotations

import io
import sys

import typer

from ganno_bench.cli import catalogue, creating, evaluating, leaderboard, plugins, results, running, training, verifying
from ganno_bench.core.errors import GannoBenchError

__all__ = ["app", "main"]

app = typer.Typer(
    name="ganno-bench",
    help="A benchmark for learning-rate schedulers. Optuna tunes each of them with the same budget.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command("run")(running.run)
app.command("tune")(running.tune)
app.command("table")(results.table)
app.command("plot")(results.plot)
app.command("check")(plugins.check)
app.command("train")(training.train)
app.command("evaluate")(evaluating.evaluate)
app.add_typer(verifying.app, name="verify")
app.add_typer(leaderboard.app, name="leaderboard")
app.add_typer(creating.app, name="new")
app.command("list")(catalogue.list_)
app.command("show")(catalogue.show)
app.command("plugins")(plugins.plugins)


def _version(wanted: bool) -> None:
    if wanted:
        from ganno_bench import __version__

        typer.echo(f"ganno-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line. A user's error is one line on standard error, with exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # an encoding without some character must not hide a result
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="ganno-bench")
    except GannoBenchError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)

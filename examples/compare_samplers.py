"""Compare how well TPE, random search and CMA-ES tune a schedule: python examples/compare_samplers.py [--help].

The repetitions of all samplers run side by side. Each study proposes one trial, all trials are trained as one
population, and each study gets its value. So each study is sequential, as its sampler expects, and training is fast.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import optuna
import torch
from matplotlib.figure import Figure
from optuna.samplers import CmaEsSampler, RandomSampler, TPESampler
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scipy.stats import bootstrap

from ganno_bench.core.errors import UserError
from ganno_bench.integrations.optunahub import SchedulerProblem

SAMPLERS = {
    "univariate TPE": lambda seed: TPESampler(seed=seed, multivariate=False),
    "multivariate TPE": lambda seed: TPESampler(seed=seed, multivariate=True),
    "random": lambda seed: RandomSampler(seed=seed),
    "CMA-ES": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
}
COLOURS = {"univariate TPE": "#0072B2", "multivariate TPE": "#009E73", "random": "#7f7f7f", "CMA-ES": "#D55E00"}


def optimize(problem, repetitions, trials):
    """Return sampler -> studies, one for each repetition. Repetition i of every sampler has seed i."""
    studies = {
        name: [optuna.create_study(sampler=make(seed), directions=problem.directions) for seed in range(repetitions)]
        for name, make in SAMPLERS.items()
    }
    everyone = [study for several in studies.values() for study in several]
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left:"), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        for _ in progress.track(range(trials), description=f"{len(everyone)} studies of {problem.name}"):
            asked = [study.ask(problem.search_space) for study in everyone]
            values = problem.evaluate_batch([trial.params for trial in asked])
            for study, trial, value in zip(everyone, asked, values, strict=True):
                study.tell(trial, value)
    return studies


def best_so_far(studies):
    """Return the lowest value after each trial, shape (repetitions, trials)."""
    return np.minimum.accumulate([[trial.value for trial in study.trials] for study in studies], axis=1)


def interval(best):
    """Return the 95 % bootstrap confidence interval of the mean over the repetitions, after each trial: two arrays."""
    found = bootstrap((best,), np.mean, axis=0, method="percentile", n_resamples=2000, rng=np.random.default_rng(0))
    return found.confidence_interval


def write_csv(path, studies):
    """Write one line for each trial."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = list(next(iter(studies.values()))[0].trials[0].params)
        writer.writerow(["sampler", "repetition", "trial", "value", "best", *names])
        for sampler, several in studies.items():
            for repetition, (study, best) in enumerate(zip(several, best_so_far(several), strict=True)):
                for trial in study.trials:
                    values = [trial.params[name] for name in names]
                    writer.writerow([sampler, repetition, trial.number, trial.value, best[trial.number], *values])


def plot(path, problem, studies):
    """Draw the mean best value after each trial, with its confidence interval."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, several in studies.items():
        best = best_so_far(several)
        x = np.arange(1, best.shape[1] + 1)
        axes.plot(x, best.mean(0), color=COLOURS[name], label=name)
        axes.fill_between(x, *interval(best), color=COLOURS[name], alpha=0.15, linewidth=0)
    axes.set(xlabel="trials", ylabel="best validation loss so far, nats", xlim=(1, best.shape[1]))
    # The first trials vary widely. Leave them out of the range, because they would hide the later differences.
    later = [interval(best_so_far(several)[:, best.shape[1] // 8 :]) for several in studies.values()]
    low, high = min(bounds.low.min() for bounds in later), max(bounds.high.max() for bounds in later)
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.set_title(f"{problem.name}: mean of {len(best)} studies, 95 % confidence intervals", loc="left", fontsize=10)
    axes.legend(frameon=False)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main():
    """Compare the samplers, write the results, and print the best values."""
    parser = argparse.ArgumentParser(description="Compare Optuna's samplers on tuning a learning-rate schedule.")
    parser.add_argument("--suite", default="quickstart", help="name of a suite, or path of a TOML file")
    parser.add_argument("--workload", default="digits-mlp-4")
    parser.add_argument("--scheduler", default="wsd")
    parser.add_argument("--trials", type=int, default=40, help="trials of each study")
    parser.add_argument("--repetitions", type=int, default=10, help="independent studies of each sampler")
    parser.add_argument("--data-dir", action="append", default=[], help="folder with datasets")
    parser.add_argument("--out", type=Path, default=Path("runs/samplers"), help="folder for the CSV file and the plot")
    options = parser.parse_args()
    if options.trials < 1 or options.repetitions < 2:
        parser.error("must be: --trials at least 1, --repetitions at least 2 (a confidence interval needs two)")
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        problem = SchedulerProblem(options.suite, options.workload, options.scheduler, data_dirs=options.data_dir)
    except UserError as error:
        parser.error(str(error))
    studies = optimize(problem, options.repetitions, options.trials)
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "trials.csv", studies)
    plot(options.out / "best-so-far.png", problem, studies)
    print(f"best validation loss after {options.trials} trials, mean of {options.repetitions} studies")
    for name, several in studies.items():
        best = best_so_far(several)
        low, high = (bound[-1] for bound in interval(best))
        print(f"{name:<18}{best[:, -1].mean():.4f} [{low:.4f}, {high:.4f}]")
    print(f"written to {options.out}: trials.csv, best-so-far.png")


if __name__ == "__main__":
    main()

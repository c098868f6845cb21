"""What costs seconds to import is not imported to print a help page."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "optuna", "torchrl", "tensordict", "pandas", "matplotlib", "datasets", "scipy", "sklearn", "numpy")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["--version"],
        ["leaderboard", "--help"],
        ["leaderboard", "submit", "--help"],
        ["leaderboard", "build", "--help"],
        *(
            [command, "--help"]
            for command in ("run", "tune", "verify", "table", "plot", "check", "list", "show", "plugins", "new")
        ),
    ],
    ids=" ".join,
)
def test_the_command_line_is_light(words: list[str]) -> None:
    code = (
        f"import sys\nsys.argv = ['ganno-bench', *{words!r}]\n"
        "from ganno_bench.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        f"sys.stderr.write(repr((code, sorted(set({HEAVY!r}) & set(sys.modules)))))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith(f"({2 if not words else 0}, [])")
    assert "ganno-bench" in done.stdout + done.stderr


def test_the_package_can_be_called() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ganno_bench", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("ganno-bench ")


def test_the_package_is_light() -> None:
    code = f"import sys, ganno_bench; ganno_bench.__version__; sys.exit(len(set({HEAVY!r}) & set(sys.modules)))"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_mistake_in_the_command_is_found_before_anything_is_imported() -> None:
    code = (
        "import sys\nsys.argv = ['ganno-bench', 'run', '--trials', 'many', 'quickstart']\n"
        "from ganno_bench.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 2\n"
        f"assert not set({HEAVY!r}) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_what_is_offered_can_be_imported() -> None:
    import ganno_bench

    assert all(getattr(ganno_bench, name) is not None for name in ganno_bench.__all__)
    with pytest.raises(AttributeError, match="module 'ganno_bench' has no attribute 'nothing'"):
        _ = ganno_bench.nothing

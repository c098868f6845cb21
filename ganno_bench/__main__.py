"""`python -m ganno_bench` runs the command `ganno-bench`."""

from ganno_bench.cli.main import main

if __name__ == "__main__":
    main()

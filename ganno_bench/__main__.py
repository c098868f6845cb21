"""`python -m ganno_bench` is `ganno-bench`."""

from ganno_bench.cli.main import main

if __name__ == "__main__":
    main()

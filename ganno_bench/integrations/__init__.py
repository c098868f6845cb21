"""Use of the benchmark from other programs: policies in your own training loop, workloads for OptunaHub."""

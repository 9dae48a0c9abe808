"""The runs: prepare, train, evaluate, report. `pipelines --help` lists the commands."""

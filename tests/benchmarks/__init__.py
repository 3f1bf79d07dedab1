"""Benchmarks: the sides beside each other in one run, and the ratio between them.

A benchmark is a module or package here with `NAME`, `HELP` and `run(arguments: Sequence[str]) -> int`, the exit
status; nothing else has to be told. Numbers are printed and never asserted: a machine that is busy is no failure.
"""

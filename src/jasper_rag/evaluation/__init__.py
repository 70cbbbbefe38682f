"""Evaluation: the same queries through every system, with intervals and paired tests."""

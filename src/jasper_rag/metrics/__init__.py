"""Ranking metrics and exact top-k search: arrays in, arrays out."""

"""Rank search: a space, a budget, rewards, and one file per searcher."""

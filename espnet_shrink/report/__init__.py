"""Scoring, and results.json turned into tables, plots and a page."""

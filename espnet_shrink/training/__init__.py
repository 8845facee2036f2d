"""Retraining, with whatever trainer."""

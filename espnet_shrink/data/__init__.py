"""Data folders, features and proxy sets."""

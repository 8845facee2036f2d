"""Ways to make a model small, a folder each."""

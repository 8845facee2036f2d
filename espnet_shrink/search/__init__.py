"""Search: a space, a budget, rewards, and one file per searcher."""

"""Low rank as a compression method: find sites, decompose them, put a plan into a model."""

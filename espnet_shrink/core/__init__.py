"""Files, settings and checkpoints; knows no model."""

"""The steps that verbs, recipe and ESPnet3 share, over models and folders."""

"""The proxy set: a few utterances, decoded fast, on which candidate plans are scored."""

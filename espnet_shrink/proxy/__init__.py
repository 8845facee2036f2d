"""The proxy set: a few utterances, decoded fast, on which candidate plans are scored."""

PROXY_SIZE = 100  # utterances, unless told otherwise

"""Data folders, features and proxy sets."""

PROXY_SIZE = 100  # utterances of a proxy set, unless told otherwise

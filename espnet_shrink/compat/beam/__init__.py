"""Joint beam search of RNN recognisers, all hypotheses of a step at once.

    use.py      puts it in the place of ESPnet's search, where it finds the same
    search.py   a step: scores, choice, and what is kept of it
    decoder.py  ESPnet's RNN decoder, a row per hypothesis
    ctc.py      CTC prefix scores, compiled

ESPnet's own loop over steps, its length limits and its end detection stay.
"""

from espnet_shrink.compat.beam.use import search_in_batches

__all__ = ["search_in_batches"]

"""Puts the search into ESPnet's Speech2Text, where it finds what ESPnet's own does."""

from __future__ import annotations

import logging
from typing import Any

from espnet_shrink.compat.beam.search import CTC, DECODER, InBatches
from espnet_shrink.compat.decoders.rnn import can_batch


def search_in_batches(speech2text: Any) -> bool:
    """Let an `espnet2.bin.asr_inference.Speech2Text` search all hypotheses of a step at once.

    N-best lists and scores stay what they are. Of what it does not know nothing is changed, and a
    line of the log says so: decoders that ESPnet searches in batches itself (Transformers), RNN
    attentions that remember their siblings, several encoders, n-grams, streaming, GPUs.

    Returns:
        Whether it does.
    """
    search = getattr(speech2text, "beam_search", None)
    # Else a transducer's, or one that is in batches already.
    return type(search).__name__ == "BeamSearch" and change(search)


def change(search: Any) -> bool:
    """The same for ESPnet's `BeamSearch` itself."""
    reason = _unknown(search)
    if reason is not None:
        logging.getLogger(__name__).warning("ESPnet's own beam search: %s", reason)
        return False
    logging.getLogger(__name__).info("BeamSearchInBatches implementation is selected.")
    search.__class__ = type("BeamSearchInBatches", (InBatches, type(search)), {})
    return True


def _unknown(search: Any) -> str | None:
    """What there is no batched search for; None: there is one."""
    decoder = search.full_scorers.get(DECODER)
    if not (can_batch(decoder) and decoder.num_encs == 1) or _remembers_siblings(decoder):
        kind = type(decoder).__name__
        attentions = getattr(decoder, "att_list", None)
        inside = f" with {type(attentions[0]).__name__}" if attentions else ""
        return f"the steps of {kind}{inside} are not known in batches"
    for name, scorer in search.full_scorers.items():
        if name != DECODER and not hasattr(scorer, "batch_score"):
            return f"the scorer {name} ({type(scorer).__name__}) knows no batches"
    for name, scorer in search.part_scorers.items():
        if name != CTC:
            return f"the scorer {name} ({type(scorer).__name__}) is not known in batches"
    if search.return_hs or search.hyp_primer is not None:
        return "hidden states are asked for, or a prompt is given"
    if search.pre_beam_score_key not in (None, "full"):
        return f"its first choice is by {search.pre_beam_score_key} alone"
    parameters = [p for s in search.full_scorers.values() for p in getattr(s, "parameters", list)()]
    if any(p.device.type != "cpu" for p in parameters):
        return "on a GPU ESPnet's own is kept"
    return None


def _remembers_siblings(decoder: Any) -> bool:
    """Whether ESPnet's hypotheses share one list of earlier attention weights, and add to it."""
    return type(decoder.att_list[0]).__name__ in ("AttCov", "AttCovLoc")

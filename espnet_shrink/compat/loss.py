"""ESPnet's own training loss of one utterance, given its text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from espnet_shrink.compat.encoder import past_the_frontend
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.text import Prompt
from espnet_shrink.errors import ShrinkError

TASKS = ("asr", "asr_transducer", "s2t", "slu")
# In eval mode ESPnet's losses also count errors, a transducer's by a beam search.
ERROR_COUNTS = ("error_calculator", "error_calculator_trans", "report_cer", "report_wer")


def check_loss(loaded: LoadedModel) -> None:
    """Refuse a model whose loss needs more than speech and its text.

    Raises:
        ShrinkError: it is of such a task.
    """
    if loaded.task.name not in TASKS:
        raise ShrinkError(
            f"{loaded.config} is of the task {loaded.task.name}, whose loss needs more than speech "
            f"and its text: choose a searcher that does not look at the loss (tasks that can: "
            f"{', '.join(TASKS)})"
        )


def loss_of(
    loaded: LoadedModel, feature: torch.Tensor, tokens: Sequence[int], prompt: Prompt
) -> torch.Tensor:
    """The loss that the model is trained by, a scalar.

    Args:
        feature: (T, ...), what the encoder is given.
        tokens: of the reference, without those of `prompt`.

    Raises:
        ShrinkError: a translation, whose CTC head would need the text that is spoken.
    """
    if not prompt.transcribes:
        raise ShrinkError(
            f"{loaded.config} is asked for a translation, whose loss needs the text that "
            "is spoken: choose a searcher that does not look at the loss"
        )
    model = past_the_frontend(loaded.model)
    for name in ERROR_COUNTS:
        if name in vars(model):
            setattr(model, name, None)
    given = {"speech": feature[None], "text": torch.tensor([[*prompt.first[1:], *tokens]])}
    if loaded.task.name == "s2t":
        given |= {"text_prev": torch.tensor([[model.na]]), "text_ctc": torch.tensor([tokens])}
    lengths = {f"{name}_lengths": torch.tensor([value.shape[1]]) for name, value in given.items()}
    loss: torch.Tensor = model(**given, **lengths)[0]
    return loss.sum()

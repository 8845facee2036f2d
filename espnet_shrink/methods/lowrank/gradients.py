"""One backward pass over data: how the loss changes if a component of a site is dropped.

First order, after Zero Sum SVD (2602.02848): with S = E[x x^T] = L L^T, W L = P diag(s) Q^T and
G = dLoss/dW, dropping component i changes the loss by -s_i (P^T G L^-T Q)_ii. In the factors of a
Decomposition that is -u_i^T G v_i, whitened or plain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from tqdm import tqdm

from espnet_shrink.compat.chance import leave_nothing_to_chance
from espnet_shrink.compat.loss import check_loss, loss_of
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.core.random_state import kept_random_state
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.errors import ShrinkError, working_on
from espnet_shrink.methods.lowrank.decompose import Decomposition
from espnet_shrink.plan import Decision


def loss_gradients(
    loaded: LoadedModel, sites: Sequence[Decision], data: FeatureSet
) -> dict[str, torch.Tensor]:
    """Site -> (out, in), the gradient of the mean loss over `data`, in eval mode.

    A site that the loss does not reach is left out. An utterance without a finite loss (a text
    longer than CTC has frames for) is left out too.

    Raises:
        ShrinkError: the task's loss needs more than speech and text, or no utterance has a finite
            one.
    """
    check_loss(loaded)
    own = loaded.copy()  # modules keep what they computed, here with its graph
    leave_nothing_to_chance(own.model)
    parameters = dict(own.model.requires_grad_(True).named_parameters())
    weights = [parameters[site.name] for site in sites]
    sums: list[torch.Tensor | None] = [None] * len(sites)
    used, data = 0, data.heard()
    each = list(zip(data.utterances, data.features, data.tokens, data.prompts, strict=True))
    with kept_random_state(), torch.enable_grad():
        torch.manual_seed(0)
        np.random.seed(0)  # Mask-CTC masks at random
        for utterance, feature, tokens, prompt in tqdm(each, "gradients", unit="utterance"):
            with working_on(f"{loaded.config}: the loss of {utterance.name}"):
                loss = loss_of(own, feature, tokens, prompt)
                found = torch.autograd.grad(loss, weights, allow_unused=True)
            if not all(g is None or g.isfinite().all() for g in (loss, *found)):
                continue
            used += 1
            for i, gradient in enumerate(found):
                if gradient is not None:
                    before = sums[i]
                    sums[i] = gradient if before is None else before + gradient
    if not used:
        raise ShrinkError(
            f"{loaded.config}: no utterance has a finite loss: their texts are too long for their "
            "audio, or the model is no good"
        )
    if used < len(each):
        tqdm.write(f"gradients: {len(each) - used} utterances have no finite loss and are left out")
    return {
        site.name: total.detach().reshape(site.shape) / used
        for site, total in zip(sites, sums, strict=True)
        if total is not None
    }


def loss_changes(
    decompositions: Mapping[str, Decomposition], gradients: Mapping[str, torch.Tensor]
) -> dict[str, np.ndarray]:
    """Site -> (k,), to first order what dropping each component alone adds to the loss."""
    changes = {}
    for name, gradient in gradients.items():
        U, V = (factor.to(torch.float64) for factor in
                (decompositions[name].U, decompositions[name].V))  # fmt: skip
        changes[name] = -(U * (gradient.to(torch.float64) @ V.T)).sum(0).numpy()
    return changes

"""What is taken over from the config of a packed model: what the model is, and how it was trained.

Where its author's data, logs and other models lie is nothing to whoever unpacks it, and would let
an archive choose what is read and run: a `kaldi_ark` list may hold commands. So all other keys get
ESPnet's defaults.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

from espnet_shrink.compat.tasks import Task

# Of the options that all tasks have; the task's own say what the model is.
TRAINING = frozenset(
    """
    accum_grad adapter adapter_conf allow_multi_rates allow_variable_data_keys batch_bins batch_size
    batch_type best_model_criterion category_sample_size category_upsampling_factor
    chunk_default_fs chunk_discard_short_samples chunk_excluded_key_prefixes chunk_length
    chunk_max_abs_length chunk_shift_ratio cudnn_benchmark cudnn_deterministic cudnn_enabled
    drop_last_iter early_stopping_criterion exclude_weight_decay exclude_weight_decay_conf
    fold_length freeze_param grad_clip grad_clip_type grad_noise iterator_type keep_nbest_models
    log_interval max_batch_size max_epoch min_batch_size nbest_averaging_interval no_forward_run
    num_att_plot num_cache_chunks num_iters_per_epoch optim optim_conf patience save_strategy
    scheduler scheduler_conf seed shuffle_within_batch sort_batch sort_in_batch train_dtype
    unused_parameters upsampling_factor use_adapter use_amp use_tf32 val_scheduler_criterion
    valid_batch_bins valid_batch_size valid_batch_type valid_iterator_type
    """.split()
)
DATA = frozenset({"rir_scp", "noise_scp"})  # a task's own options, yet of its data
CLASSES = frozenset({"optim", "scheduler"})  # names; ESPnet3 has Python paths with arguments there


def without_authors_files(
    config: Mapping[str, Any], task: Task
) -> tuple[dict[str, Any], list[str]]:
    """`config` with ESPnet's defaults for all that does not say what the model is.

    Returns:
        The config, and the keys that had something else.
    """
    builder = task.builder()

    class Bare(builder):  # type: ignore[misc, valid-type]
        """The options that all tasks have."""

        @classmethod
        def add_task_arguments(cls, parser: Any) -> None:
            """None of its own."""

    with contextlib.redirect_stderr(io.StringIO()):
        common, parser = Bare.get_parser(), builder.get_parser()
    shared = {action.dest for action in common._actions} - {"help", "config", "print_config"}
    own = {action.dest for action in parser._actions} - {"help", "config", "print_config"} - shared
    kept = {
        key: value
        for key, value in config.items()
        if key in TRAINING | own - DATA and not (key in CLASSES and not isinstance(value, str))
    }
    defaults = {
        key: parser.get_default(key) for key in sorted(shared | DATA & own) if key not in kept
    }
    left_out = sorted(
        key
        for key, value in config.items()
        if key not in kept and value not in (None, [], {}, "", defaults.get(key))
    )
    return {**defaults, **kept}, left_out

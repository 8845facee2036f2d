"""ESPnet3, from 202611 on: all of it that its system for compression stands on."""

from espnet2.layers.create_adapter import create_adapter
from espnet3.components.data.dataset_module import instantiate_dataset_reference
from espnet3.contract.kinds.audio import Audio
from espnet3.contract.stages import StageSpec
from espnet3.systems.base.inference import infer
from espnet3.systems.base.inference_provider import InferenceProvider
from espnet3.systems.base.training import train
from espnet3.systems.esp2_asr.inference import ASRInferenceRunner
from espnet3.systems.esp2_asr.system import ASRSystem
from espnet3.systems.esp2_asr.task import ASRTask
from espnet3.utils.logging_utils import configure_logging

__all__ = [
    "ASRInferenceRunner", "ASRSystem", "ASRTask", "Audio", "InferenceProvider", "StageSpec",
    "configure_logging", "create_adapter", "infer", "instantiate_dataset_reference", "train",
]  # fmt: skip

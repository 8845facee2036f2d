"""ESPnet3's stages and those that compress: python run.py --stages ... --training_config ..."""

from espnet3.systems.launch import launch

from espnet_shrink.espnet3 import ShrinkSystem

if __name__ == "__main__":
    launch(ShrinkSystem, conf_package="egs3.TEMPLATE.esp2_asr")

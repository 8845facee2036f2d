"""`import espnet_shrink` changes nothing for models that are not ours."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import python

from espnet_shrink.core.files import read_yaml

CODE = """
import hashlib, io, json, sys
import torch
if sys.argv[1] == "with":
    import espnet_shrink
save, load, reads = torch.save, torch.load, []
def counted(*args, **kwargs):
    reads.append(str(args[0]))
    return load(*args, **kwargs)
torch.load = counted
from espnet2.tasks.asr import ASRTask
found = {}
for config, checkpoint in zip(sys.argv[2::2], sys.argv[3::2]):
    del reads[:]
    torch.manual_seed(0)
    try:
        model, args = ASRTask.build_model_from_file(config, checkpoint, device="cpu")
    except Exception as error:
        found[checkpoint] = [type(error).__name__, str(error)[:200], list(reads)]
        continue
    model.eval()
    with torch.no_grad():
        encoded, _ = model.encode(torch.linspace(-1, 1, 8000)[None], torch.tensor([8000]))
    digest = hashlib.sha256(encoded.numpy().tobytes()).hexdigest()
    small = torch.quantization.quantize_dynamic(model, {torch.nn.LSTM, torch.nn.Linear})
    qint8 = torch.ao.quantization.quantize_dynamic(
        model, qconfig_spec={torch.nn.Linear}, dtype=torch.qint8, mapping=None, inplace=False)
    hooks = [len(m._load_state_dict_post_hooks) + len(m._load_state_dict_pre_hooks)
             for m in model.modules()]
    found[checkpoint] = [digest, list(reads), type(args).__name__, str(small), str(qint8),
                         type(model).__module__, sum(hooks), sorted(vars(args))]
found["save"] = save.__module__ + save.__qualname__
found["lstm"] = torch.nn.LSTM.forward.__module__
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def states(trained_recipe, tmp_path_factory) -> list[str]:
    """Pairs of a config and a checkpoint that is in some way unlike a trainer's."""
    folder = tmp_path_factory.mktemp("states")
    state = torch.load(trained_recipe / "exp/asr/valid.acc.ave.pth", weights_only=True)
    config = read_yaml(trained_recipe / "exp/asr/config.yaml")
    (folder / "plain.yaml").write_text(yaml.safe_dump(config))
    conf = {"use_adapter": True, "adapter": "lora", "adapter_conf": {"target_modules": ["att.mlp"]}}
    (folder / "lora.yaml").write_text(yaml.safe_dump(config | conf))
    one = next(name for name in state if name.startswith("encoder.") and "weight" in name)
    variants = {
        "as_it_is": state,
        "less": {key: value for key, value in state.items() if key != one},
        "more": state | {"other.weight": torch.ones(2), "another_U": torch.ones(2)},
        "factor_names": state | {"x.U.weight": torch.ones(2), "x.V.weight": torch.ones(2)},
        "pickled": state | {"path": Path("x"), "epoch": 3},
        "deepspeed": {"module": state, "epoch": 3, "args": Path("x")},
        "other_shape": state | {one: torch.ones(1)},
        "list": list(state),
    }
    pairs = []
    for name, content in variants.items():
        torch.save(content, folder / f"{name}.pth")
        pairs += [str(folder / "plain.yaml"), str(folder / f"{name}.pth")]
    (folder / "broken.pth").write_bytes(b"PK\x03\x04")
    pairs += [str(folder / "plain.yaml"), str(folder / "broken.pth")]
    pairs += [str(folder / "plain.yaml"), str(folder / "none.pth")]
    torch.save(state, folder / "for_lora.pth")
    return [*pairs, str(folder / "lora.yaml"), str(folder / "for_lora.pth")]


@pytest.mark.slow
def test_plain_models_load_as_without_the_plugin(states, tmp_path):
    found = []
    for how in ("without", "with"):
        done = python("-c", CODE, how, *states, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.split("FOUND ")[1]))
    without, with_plugin = found
    for name in without:
        assert with_plugin[name] == without[name], name
    loaded = {Path(name).stem: result for name, result in without.items()}
    assert loaded["as_it_is"][1] == [states[1]]  # one read
    assert loaded["more"][0] == loaded["as_it_is"][0] != loaded["less"][0]

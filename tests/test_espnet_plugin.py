"""A compressed model is an ESPnet model: ESPnet's own code builds, loads, trains and packs it."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import soundfile
import torch
from conftest import python
from toy import close

from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.kaldi import read_folder
from espnet_shrink.methods.lowrank.build import fold, plan_of

UTTERANCES = ["dev1-01", "dev2-08"]

DECODE = """
import sys, json
import espnet_shrink
from espnet2.bin.asr_inference import Speech2Text
import soundfile
decode = Speech2Text(sys.argv[1], sys.argv[2], beam_size=2, ctc_weight=0.3)
found = [decode(soundfile.read(f"wav/{name}.wav")[0])[0][0] for name in sys.argv[3:]]
print("FOUND " + json.dumps(found))
"""


@pytest.fixture
def batch(baseline):
    """Four utterances as ESPnet's trainer gives them: speech (4, T), text (4, L), and lengths."""
    from espnet2.tasks.asr import ASRTask
    from espnet2.train.collate_fn import common_collate_fn

    preprocess = ASRTask.build_preprocess_fn(baseline.args, False)
    items = [
        (u.name, preprocess(u.name, {"speech": soundfile.read(u.audio, dtype="float32")[0],
                                     "text": u.text}))
        for u in read_folder("dump/raw/dev")[:4]
    ]  # fmt: skip
    # Longest first, as the trainer's batches are.
    items.sort(key=lambda item: -len(item[1]["speech"]))
    return common_collate_fn(items, float_pad_value=0.0, int_pad_value=-1)[1]


def texts(config: Path, checkpoint: Path) -> list[str]:
    from espnet2.bin.asr_inference import Speech2Text

    decode = Speech2Text(str(config), str(checkpoint), beam_size=2, ctc_weight=0.3)
    return [decode(soundfile.read(f"wav/{name}.wav")[0])[0][0] for name in UTTERANCES]


def factor_names(site: str) -> tuple[str, str]:
    """State-dict names of U and V of a site."""
    if site.endswith(".weight"):
        return site[: -len("weight")] + "U.weight", site[: -len("weight")] + "V.weight"
    return site + "_U", site + "_V"


def factored_name(name: str, own: Mapping[str, object]) -> str:
    """Where a factorised model keeps what is `name` in the plain one: a linear bias is U's."""
    return name if name in own else name.replace(".bias", ".U.bias")


def test_espnet_rebuilds_a_compressed_model_bit_for_bit(small, batch):
    from espnet2.bin.asr_inference import Speech2Text
    from espnet2.tasks.asr import ASRTask

    built, _ = ASRTask.build_model_from_file(str(small.config), str(small.checkpoint))
    inferring = Speech2Text(str(small.config), str(small.checkpoint)).asr_model
    expected = small.model.state_dict()
    for model in (built.eval(), inferring):
        found = model.state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert plan_of(model) == plan_of(small.model)
        encoded, _ = model.encode(batch["speech"], batch["speech_lengths"])
        assert torch.equal(encoded, small.model.encode(batch["speech"], batch["speech_lengths"])[0])


def test_a_fresh_process_needs_only_import_espnet_shrink(small):
    done = python("-c", DECODE, small.config, small.checkpoint, *UTTERANCES, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.split("FOUND ")[1])
    assert found == texts(small.config, small.checkpoint)
    assert len(set(found)) == len(UTTERANCES)  # it has something to say


def test_loss_and_gradients_are_those_of_the_factors_multiplied_out(small, batch):
    factored, dense = small.model.train(), copy.deepcopy(small.model)
    fold(dense)
    losses = []
    for model in (factored, dense):
        loss, stats, weight = model(**batch)
        losses.append(loss)
        loss.backward()
    close(losses[0], losses[1], 1e-5)
    whole = {name: p.grad for name, p in dense.named_parameters()}
    own = dict(factored.named_parameters())
    plan = plan_of(factored)
    for site in plan.factored:
        # W = U V, so dU = dW V^T and dV = U^T dW.
        U, V = (own[name] for name in factor_names(site))
        close(U.grad, whole[site] @ V.detach().T, 1e-4)
        close(V.grad, U.detach().T @ whole[site], 1e-4)
    for name in whole.keys() - plan.factored.keys():
        close(own[factored_name(name, own)].grad, whole[name], 1e-4)


def test_one_training_step_is_that_of_the_factors_multiplied_out(small, batch):
    rate = 0.1
    batch["speech"] = batch["speech"].double()  # gradients in float32 differ by processor
    factored = small.model.double().train()
    dense = copy.deepcopy(factored)
    fold(dense)
    stepped = copy.deepcopy(dense)
    before = {name: p.detach().clone() for name, p in factored.named_parameters()}
    dense(**batch)[0].backward()
    optimizer = torch.optim.SGD(factored.parameters(), rate)
    factored(**batch)[0].backward()
    optimizer.step()
    after = dict(factored.named_parameters())
    with torch.no_grad():
        for name, parameter in stepped.named_parameters():
            gradient = dense.get_parameter(name).grad
            if name in plan_of(factored).factored:
                U, V = (before[n] for n in factor_names(name))
                parameter.copy_((U - rate * gradient @ V.T) @ (V - rate * U.T @ gradient))
            else:
                parameter.sub_(rate * gradient)
    assert any(not torch.equal(after[n], before[n]) for n in after if n.endswith("_U"))
    close(factored(**batch)[0], stepped(**batch)[0], 1e-4)
    encoded = [m.eval().encode(batch["speech"], batch["speech_lengths"])[0]
               for m in (factored, stepped, dense)]  # fmt: skip
    close(encoded[0], encoded[1], 1e-4)
    assert (encoded[2] - encoded[1]).abs().max() > 0.1  # the step moves the output


def test_espnets_zip_unpacks_to_a_model_that_decodes_the_same(small, recipe):
    from espnet2.main_funcs.pack_funcs import unpack

    done = python(
        "-m", "espnet_shrink.run", "-m", "espnet2.bin.pack", "asr", "--asr_train_config",
        small.config, "--asr_model_file", small.checkpoint, "--outpath", "small.zip", cwd=recipe,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = unpack("small.zip", "elsewhere")
    found = read_yaml(files["asr_train_config"])
    assert found["adapter_conf"] == read_yaml(small.config)["adapter_conf"]
    assert texts(files["asr_train_config"], files["asr_model_file"]) == texts(
        small.config, small.checkpoint
    )


def test_a_plain_model_loads_through_espnet_as_before(baseline):
    from espnet2.tasks.asr import ASRTask

    found, _ = ASRTask.build_model_from_file(str(baseline.config), str(baseline.checkpoint))
    expected = torch.load(baseline.checkpoint, weights_only=True)
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(found.state_dict()[name], expected[name]) for name in expected)

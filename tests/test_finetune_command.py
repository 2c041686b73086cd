"""``leakboard finetune`` and ``leakboard unseal``: a victim tuned on the board, its hidden part back with its owner."""

import re

import pytest

from device.owner import OwnerKey
from device.sealing import key_to_pem
from suite import finetune_commands
from suite.cli import main
from suite.graph.parse import parse, parse_file
from suite.store import Store

VICTIM = '''"""A victim for one test."""
from torch import nn

from suite import victim
from victims.recipe import Recipe


@victim("tinytuned", recipe=Recipe(learning_rate=0.05, epochs_factor=0.05))
class TinyTuned(nn.Module):
    """One convolution and two linear layers (original)."""

    def __init__(self, input_shape, n_classes):
        super().__init__()
        channels, height, width = input_shape
        self.features = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten())
        self.middle = nn.Sequential(nn.Linear(4 * height * width, 32), nn.ReLU(), nn.Dropout(0.1))
        self.classifier = nn.Linear(32, n_classes)

    def forward(self, images):
        return self.classifier(self.middle(self.features(images)))
'''


@pytest.fixture
def tiny(tmp_path, monkeypatch, scratch_registry):
    (tmp_path / "tiny_tuned.py").write_text(VICTIM)
    monkeypatch.setattr(finetune_commands, "Store", lambda: Store(tmp_path / "store"))
    return ("--profile", "smoke", "--plugin", str(tmp_path / "tiny_tuned.py"), "--learning-rate", "0.005")


def test_a_victim_is_tuned_and_opened_by_its_owner(tiny, tmp_path, capsys):
    folder, model = tmp_path / "tuned", tmp_path / "model.lbm"
    arguments = ("finetune", "tinytuned", "darknetz[k=1]", *tiny, "--images", "600", "--epochs", "4", "-o", str(folder))
    assert main(arguments) == 0
    said = capsys.readouterr().out
    before, after = map(float, re.search(r"before, after +([\d.]+) %, ([\d.]+) %", said).groups())
    assert after > before + 2
    assert re.search(r"steps +48\n", said)
    keys = ("--owner-key", str(folder / "owner.pem"), "--device-key", str(folder / "device.pem"))
    assert main(("unseal", str(folder / "sealed.lbm"), *keys, "-o", str(model))) == 0
    (hidden,) = parse(model.read_bytes()).as_segments()
    assert [node.weights["weight"].shape for node in hidden.graph.parameter_nodes()] == [(10, 32)]
    (public,) = parse_file(folder / "public.lbm").as_segments()
    assert len(public.graph.parameter_nodes()) == 2
    assert (folder / "owner.pem").stat().st_mode & 0o077 == 0

    capsys.readouterr()
    (tmp_path / "other.pem").write_bytes(OwnerKey.generate().to_pem())
    (tmp_path / "another.pem").write_bytes(key_to_pem(OwnerKey.generate().public))
    for changed, message in [
        (("--owner-key", str(tmp_path / "other.pem")), "another owner"),
        (("--device-key", str(tmp_path / "another.pem")), "another device made it"),
        (("--owner-key", str(folder / "device.pem")), "P-256 private key"),
        (("--device-key", str(model)), "leakboard board key writes one"),
    ]:
        assert main(("unseal", str(folder / "sealed.lbm"), *keys, *changed, "-o", str(model))) == 1
        assert message in capsys.readouterr().err


def test_nothing_is_sealed_where_nothing_is_hidden_and_keys_that_were_given_are_not_written(tiny, tmp_path, capsys):
    (tmp_path / "owner.pem").write_bytes(OwnerKey.generate().to_pem())
    given = ("--images", "50", "--owner-key", str(tmp_path / "owner.pem"))
    for defense, files in (
        ("vanilla", {"public.lbm"}),
        ("full_tee[output=probs]", {"public.lbm", "sealed.lbm", "device.pem"}),
    ):
        folder = tmp_path / defense[:4]
        assert main(("finetune", "tinytuned", defense, *tiny, *given, "-o", str(folder))) == 0
        assert {file.name for file in folder.iterdir()} == files
        assert re.search(r"comes out of the TEE while training +nothing\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("darknetz",), "stands for 6 variants: name one"),
        (("darknetz[k=1]", "--images", "0"), "--images 0: the profile has 1 to 700"),
        (("darknetz[k=1]", "--epochs", "0"), "at least 1"),
        (("darknetz[k=1]", "--learning-rate", "-1"), "learning rate -1"),
        (("depthwise_quant[layers=1,output=probs]",), "int8"),
    ],
)
def test_what_cannot_be_done_is_one_line(tiny, capsys, arguments, message):
    assert main(("finetune", "tinytuned", arguments[0], *tiny, *arguments[1:])) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]

"""``leakboard secure`` and ``leakboard run``: anybody's model, sealed to a device, answers as it does in PyTorch."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from device.owner import OwnerKey
from device.sealing import key_to_pem
from suite.cli import main
from suite.outside_models import ModelError, load_model

pytestmark = pytest.mark.usefixtures("scratch_registry")
SHAPE, CLASSES = (2, 12, 12), 5
SOURCE = '''
import torch
from torch import nn


class Net(nn.Module):
    """None of the suite's: a residual connection, a batch norm, a mean over the maps."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5))

    def forward(self, images):
        maps = self.stem(images)
        return self.head((torch.relu(self.body(maps)) + maps).mean((2, 3)))


def make():
    torch.manual_seed(3)
    net = Net()
    net.stem[1].running_mean.normal_()
    return net


def odd():
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(400, 5))


def grumpy():
    raise RuntimeError("no such checkpoint")


def nothing():
    return 7
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working folder with a model as a module and as a program, images, and what PyTorch says of them."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "outside_net.py").write_text(SOURCE)
    images = np.random.default_rng(1).standard_normal((6, *SHAPE)).astype(np.float32)
    np.save(folder / "images.npy", images)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        module = load_model("outside_net:make", SHAPE).module
    with torch.no_grad():
        np.save(folder / "expected.npy", torch.softmax(module(torch.from_numpy(images)), 1).numpy())
    one, two = (torch.zeros(n, *SHAPE) for n in (1, 2))
    torch.export.save(torch.export.export(module, (one,)), folder / "net.pt2")
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(module, (two,), dynamic_shapes=batch), folder / "batches.pt2")
    torch.export.save(torch.export.export(module, (two,)), folder / "pairs.pt2")
    return folder


@pytest.fixture(autouse=True)
def _there(home, monkeypatch, tmp_path):
    """Beside the models, with a device of its own."""
    monkeypatch.chdir(home)
    monkeypatch.setattr("suite.boards._storage", lambda: tmp_path)


def run(*arguments):
    return main([str(one) for one in arguments])


def hidden_rows(folder, layers):
    """Rows of a layer's weights, from the model itself: bytes that must be in no file."""
    weights = load_model("outside_net:make", SHAPE).module.state_dict()
    return [row.numpy().tobytes() for layer in layers for row in weights[f"{layer}.weight"].reshape(-1, 8)]


@pytest.mark.parametrize(
    ("model", "options", "hidden"),
    [
        ("net.pt2", ("--defense", "darknetz[k=2,output=probs]"), ("head.0", "head.2")),
        ("batches.pt2", ("--defense", "darknetz", "--k", "3", "--policy", "probs"), ("body", "head.0", "head.2")),
        (
            "outside_net:make",
            ("--input", "2x12x12", "--defense", "full_tee[output=probs]", "--policy", "top1"),
            ("body", "head.2"),
        ),
    ],
)
def test_it_answers_as_pytorch_does_and_keeps_its_layers(tmp_path, capsys, model, options, hidden):
    folder, answers = tmp_path / "sealed", tmp_path / "answers.npy"
    assert run("secure", model, *options, "-o", folder) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"leakboard run {folder} --board emulated --images FILE.npy -o answers.npy"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"public.lbm", "sealed.lbs", "device.pem", "plan.txt", "deployment.json"}
    for row in hidden_rows(folder, hidden):
        assert not [name for name, data in files.items() if row in data]
    about = json.loads(files["deployment.json"])
    assert set(hidden) <= set(about["hidden_layers"])
    assert about["tried"]["max_abs_error"] < 1e-4
    assert about["predicted"]["qemu"]["figures"][0]["how"].startswith("fitted: ")
    assert re.search(r"^head\.2 +linear ", files["plan.txt"].decode(), re.MULTILINE)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".sealed")]

    assert run("run", folder, "--images", "images.npy", "-o", answers, "--rounds", "3") == 0
    said = capsys.readouterr().out
    assert re.search(r"latency +median \d+\.\d+ ms, quartiles .*, 3 rounds\n", said)
    assert re.search(r"clock +CLOCK_MONOTONIC of this machine: no board's time\n", said)
    ours, expected = np.load(answers), np.load("expected.npy")
    if about["policy"] == "top1":
        np.testing.assert_array_equal(ours, expected.argmax(1))
    else:
        np.testing.assert_allclose(ours, expected, atol=1e-4)
        assert set(about["public_layers"]).isdisjoint(hidden)
        assert "boundary" in about["shows"]


def test_a_deployment_is_for_its_device_whole_and_never_overwritten(tmp_path, capsys):
    folder, key = tmp_path / "sealed", tmp_path / "elsewhere.pem"
    key.write_bytes(key_to_pem(OwnerKey.generate().public))
    assert run("secure", "net.pt2", "--defense", "darknetz[k=1]", "--device-key", key, "-o", folder) == 0
    assert f"leakboard run {folder} --board BOARD " in capsys.readouterr().out
    assert run("run", folder, "--images", "images.npy") == 1
    assert "run leakboard secure again with --board emulated" in capsys.readouterr().err
    before = sorted(folder.iterdir())
    assert run("secure", "net.pt2", "--defense", "darknetz[k=1]", "-o", folder) == 1
    assert "exists and is no empty folder: nothing is overwritten" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
    for name, damage, message in [
        ("public.lbm", b"x", r"public.lbm was changed: its SHA-256"),
        ("deployment.json", b"x", "deployment.json is damaged"),
        ("deployment.json", b'{"schema": 99}', "has schema 99, this program reads 1"),
        ("deployment.json", None, "no sealed deployment in"),
    ]:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(damage) if damage else (folder / name).unlink()
        assert run("run", folder, "--images", "images.npy") == 1
        assert re.search(message, capsys.readouterr().err)
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("net.pt2", "--defense", "darknetz"), "stands for 6 variants: name one"),
        (("net.pt2", "--defense", "darknetz[k=9]"), "darknetz[k=9]: net has 4 layers with parameters, so k is 1 to 4"),
        (("net.pt2", "--defense", "darknets[k=1]"), "unknown defense 'darknets'; did you mean darknetz?"),
        (("net.pt2", "--defense", "teeslice"), "trains layers of its own on the images that the model was trained on"),
        (("net.pt2", "--defense", "depthwise_quant[layers=all]"), "name some with --data FILE.npy"),
        (("net.pt2", "--defense", "darknetz[k=1,finetune=true]"), "leakboard finetune"),
        (("net.pt2", "--defense", "vanilla", "--policy", "top1"), "would be enforced by the normal world"),
        (("net.pt2", "--defense", "full_tee[output=top1]", "--tee-mib", "0.08"), "the limit is 0.08 MiB"),
        (("net.pt2", "--defense", "full_tee[output=top1]", "--tee-mib", "-1"), "--tee-mib -1"),
        (
            ("net.pt2", "--defense", "full_tee[output=top1]", "--input", "3x12x12"),
            "--input 3x12x12: net.pt2 takes 2x12x12",
        ),
        (
            ("net.pt2", "--defense", "full_tee[output=top1]", "--board", "qemo"),
            "unknown board 'qemo'; did you mean qemu?",
        ),
        (
            ("net.pt2", "--defense", "full_tee[output=top1]", "--device-key", "images.npy"),
            "leakboard board key writes one",
        ),
        (("pairs.pt2", "--defense", "full_tee[output=top1]"), "was exported for batches of 2: export it for one image"),
        (("images.npy", "--defense", "full_tee[output=top1]"), "images.npy is no .pt2 file, or is damaged"),
        (("absent.pt2", "--defense", "full_tee[output=top1]"), "cannot read the model absent.pt2: No such file"),
        (("outside_net:make", "--defense", "full_tee[output=top1]"), "add --input CxHxW"),
        (("outside_net:odd", "--defense", "full_tee[output=top1]", "--input", "2x12x12"), "GELU"),
        (
            ("outside_net:grumpy", "--defense", "full_tee[output=top1]", "--input", "2x12x12"),
            "RuntimeError: no such checkpoint",
        ),
        (
            ("outside_net:nothing", "--defense", "full_tee[output=top1]", "--input", "2x12x12"),
            "returned int, not a torch.nn.Module",
        ),
        (("nowhere:make", "--defense", "full_tee[output=top1]", "--input", "2x12x12"), "No module named 'nowhere'"),
    ],
)
def test_what_cannot_be_secured_is_named_and_leaves_nothing(tmp_path, capsys, arguments, message):
    assert run("secure", *arguments, "-o", tmp_path / "sealed") == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not [path for path in tmp_path.iterdir() if "sealed" in path.name]


def test_an_operator_that_boards_lack_is_named_with_its_layer_and_with_what_they_have():
    with pytest.raises(Exception, match=r"aten\.gelu.* of layer '1' \(GELU\).*boards run conv2d, .*softmax"):
        load_model("outside_net:odd", SHAPE)


def test_a_model_that_ends_in_a_softmax_gets_no_second_one(tmp_path):
    program = torch.export.export(
        nn.Sequential(nn.Flatten(), nn.Linear(288, CLASSES), nn.Softmax(1)), (torch.zeros(1, *SHAPE),)
    )
    torch.export.save(program, tmp_path / "soft.pt2")
    assert not load_model(str(tmp_path / "soft.pt2"), None).appended
    (tmp_path / "cut.pt2").write_bytes((tmp_path / "soft.pt2").read_bytes()[:-50])
    with pytest.raises(ModelError, match="cut.pt2 .* damaged"):
        load_model(str(tmp_path / "cut.pt2"), None)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, *SHAPE), np.uint8), "holds uint8: it should hold float32"),
        (np.zeros((2, 3, 12, 12), np.float32), r"holds \(2, 3, 12, 12\): it should hold"),
        (np.full((1, *SHAPE), np.nan, np.float32), "not finite"),
        (np.array([{}], object), "is no .npy file that can be read"),
    ],
)
def test_images_that_do_not_fit_are_refused(tmp_path, capsys, array, message):
    folder = tmp_path / "sealed"
    assert run("secure", "net.pt2", "--defense", "vanilla", "-o", folder) == 0
    assert "none: nothing is protected" in capsys.readouterr().out
    np.save(tmp_path / "odd.npy", array)
    assert run("run", folder, "--images", tmp_path / "odd.npy") == 1
    assert re.search(message, capsys.readouterr().err)


def test_a_defense_that_calibrates_does_so_on_images_that_are_named(tmp_path, capsys):
    folder = tmp_path / "sealed"
    how = ("--defense", "depthwise_quant[layers=all,output=probs]", "--data", "images.npy")
    assert run("secure", "net.pt2", *how, "-o", folder) == 0
    about = json.loads((folder / "deployment.json").read_text())
    assert about["tried"]["max_abs_error"] < 1e-4 < about["tried"]["model_max_abs_error"] < 0.1
    assert run("run", folder, "--images", "images.npy", "--rounds", "0") == 0
    assert re.search(r"image 5: class \d \(0\.\d+\)", capsys.readouterr().out)

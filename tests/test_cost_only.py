"""Victims that are there for their cost: they are the published networks, can be planned, and none is attacked."""

import numpy as np
import pytest
import torch
from torch import nn

from suite.cli import main
from suite.cuts import cut_table, cuts
from suite.deploying import deploy, untrained_victim
from suite.graph.ir import Op, bits_float
from suite.graph.planner import plan_memory
from suite.models import TrainJob
from suite.profiles import get_profile
from suite.registry import REGISTRY, Kind, PluginError, discover
from suite.session import Options, Run, UsageError
from suite.spec import default_specs, parse
from victims.task import build_model

discover()
PUBLISHED = {
    # parameters for 3x224x224 images and 1000 classes; billions of operations (two a multiply-accumulate) at a size
    "tiny_darknet": (1_042_104, 0.98, 224),
    "darknet_reference": (7_319_416, 0.81, 224),
    "extraction": (23_437_224, 8.52, 224),
    "resnet50": (25_557_032, 2 * 3.86, 224),
    "densenet201": (20_013_928, 2 * 4.29, 224),
    "darknet53": (41_609_928, 18.57, 256),
}
IMAGENET = ((3, 224, 224), 1000)


def operations(model, size):
    """Two for every multiply-accumulate of convolutions and linear layers; a model on the meta device."""
    counted = []

    def count(layer, inputs, made):
        counted.append(made.numel() * layer.weight[0].numel())

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model(torch.zeros(1, 3, size, size, device="meta"))
    return 2 * sum(counted)


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_are_the_published_networks(name):
    parameters, billions, size = PUBLISHED[name]
    with torch.device("meta"):
        model = build_model(name, *IMAGENET).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert operations(model, size) / 1e9 == pytest.approx(billions, rel=0.007)


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_take_images_of_any_size(name):
    for shape, n_classes in (((1, 28, 28), 10), ((3, 32, 32), 100), ((3, 65, 47), 7)):
        with torch.device("meta"):
            model = build_model(name, shape, n_classes).eval()
            assert model(torch.zeros(2, *shape)).shape == (2, n_classes)


def test_those_without_a_recipe_are_exactly_these():
    plugins = REGISTRY.all(Kind.VICTIM)
    assert {plugin.name for plugin in plugins if plugin.cost_only} == set(PUBLISHED)
    assert not any(plugin.cost_only for kind in (Kind.DEFENSE, Kind.ATTACK) for plugin in REGISTRY.all(kind))


def test_leaky_relus_keep_their_slope():
    graph = untrained_victim("tiny_darknet", (3, 32, 32), 10).graph
    leaky = [node for node in graph.nodes if node.op is Op.LEAKY_RELU]
    assert len(leaky) == 15
    assert {bits_float(node.attrs["slope_bits"]) for node in leaky} == {float(np.float32(0.1))}
    assert not any(node.op is Op.BATCH_NORM for node in graph.nodes)


# ---- planning


def test_every_cut_is_what_its_plan_says():
    victim = untrained_victim("tiny_darknet", *IMAGENET)
    (spec,) = parse(Kind.DEFENSE, "darknetz[k=1]")
    found = cuts(spec, victim)
    assert [cut.k for cut in found] == list(range(1, 17))
    for cut in found[::5]:
        (one,) = parse(Kind.DEFENSE, f"darknetz[k={cut.k}]")
        assert cut.peak_bytes == plan_memory(deploy(one, victim).segments).peak_bytes
    assert found[0].layers == "classifier.0"
    assert found[1].layers == "features.18.0 to classifier.0"
    assert [cut.tee_flops_frac for cut in found] == sorted(cut.tee_flops_frac for cut in found)
    assert found[-1].tee_flops_frac == 1
    limit = found[5].peak_bytes
    fit = [cut.k for cut in found if cut.peak_bytes <= limit]
    lines = cut_table(found, limit).splitlines()
    assert [line.split()[-1] for line in lines[2:-1]] == ["yes" if k in fit else "no" for k in range(1, 17)]
    assert lines[-1] == f"{len(fit)} of 16 cuts fit, the largest with k={fit[-1]}"
    assert cut_table(found, 0).endswith("0 of 16 cuts fit")


def test_cuts_keep_the_other_parameters_and_skip_a_k_that_cannot_be():
    victim = untrained_victim("vgg7", (3, 32, 32), 10)
    (top1,), (probs,) = (parse(Kind.DEFENSE, f"darknetz[k=2{more}]") for more in ("", ",output=probs"))
    label, whole = (cuts(spec, victim) for spec in (top1, probs))
    assert len(label) == len(whole) == 8
    (first,) = parse(Kind.DEFENSE, "serdab")
    assert [cut.k for cut in cuts(first, victim)] == list(range(1, 8))
    with pytest.raises(PluginError, match="defense 'vanilla' has no parameter 'k' to make cuts by; leave out --cuts"):
        cuts(parse(Kind.DEFENSE, "vanilla")[0], victim)
    with pytest.raises(PluginError, match="darknetz needs k or a range"):
        cuts(parse(Kind.DEFENSE, "darknetz[start=1,end=2]")[0], victim)


def test_plan_on_the_command_line(capsys):
    size = ("--input", "3x224x224", "--classes", "1000")
    assert main(["plan", "tiny_darknet", "darknetz[k=1]", *size]) == 0
    said = capsys.readouterr().out
    assert "on tiny_darknet (3x224x224, 1000 classes), limit 16 MiB" in said
    assert str(4 * 128 * 1000 + 4032) in said  # weights, and biases up to a multiple of 64 bytes
    assert main(["plan", "tiny_darknet", "darknetz", *size, "--cuts", "--tee-mib", "4"]) == 0
    assert "of 16 cuts fit, the largest with k=" in capsys.readouterr().out
    for text in ("224x224", "0x224x224", "3x224", "3x-1x224", "axbxc"):
        assert main(["plan", "tiny_darknet", "darknetz[k=1]", "--input", text]) == 1
        said = capsys.readouterr().err
        assert f"--input '{text}': write channels x height x width, such as 3x224x224" in said
    assert main(["plan", "tiny_darknet", "darknetz[k=1]", "--classes", "1"]) == 1
    assert "tiny_darknet needs at least 2 classes, not 1" in capsys.readouterr().err


# ---- never attacked


@pytest.fixture
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_own_cache")
def test_their_cells_are_excluded_with_the_reason(tmp_path):
    run = Run(Options(profile="smoke", victims="resnet50,alexnet", defenses="vanilla", results=str(tmp_path)))
    kept = run.screen(run.cells)
    assert {cell.victim.name for cell in kept} == {"alexnet"}
    theirs = [one for one in run.excluded if one.cell.victim.name == "resnet50"]
    assert {one.cell.measure for one in theirs} == {cell.measure for cell in run.cells}
    (reason,) = {one.reason for one in theirs}
    assert reason.startswith("the victim has no training recipe: it is there for its cost alone")


@pytest.mark.usefixtures("_own_cache")
def test_no_shadow_of_them_is_trained(tmp_path):
    with pytest.raises(UsageError, match=r"shadow\[model=resnet50\]: no shadow of resnet50 can be trained"):
        Run(Options(profile="smoke", victims="alexnet", attacks="shadow[model=resnet50]", results=str(tmp_path)))
    with pytest.raises(PluginError, match=r"victim 'resnet50' \(.*resnet50.py:\d+\) has no training recipe"):
        TrainJob("resnet50", "digits", get_profile("smoke"), 0).task()


def test_the_default_matrix_knows_them():
    assert set(PUBLISHED) <= {spec.name for spec in default_specs(Kind.VICTIM)}

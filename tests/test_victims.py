"""Architectures, their recipes, and what trained models answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from suite.registry import Kind, PluginError, discover
from victims import inference
from victims.inference import logits, predict
from victims.recipe import Recipe
from victims.task import TrainTask, build_model, load_model

PARAMETERS = {
    "alexnet": 2_472_266,
    "vgg7": 68_634,
    "vgg11": 9_231_114,
    "vgg16": 14_728_266,
    "resnet20": 272_474,
}
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64)]
BOARD_LAYERS = (
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Linear,
    nn.Sequential,
)


def test_every_architecture_is_registered_with_a_recipe():
    plugins = {plugin.name: plugin for plugin in discover((Kind.VICTIM,)).all(Kind.VICTIM)}
    assert set(PARAMETERS) <= set(plugins)
    for name in PARAMETERS:
        assert isinstance(plugins[name].options["recipe"], Recipe)


@pytest.mark.parametrize("architecture", PARAMETERS)
def test_parameter_count_for_cifar10(architecture):
    with torch.device("meta"):
        model = build_model(architecture, (3, 32, 32), 10)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[architecture]


@pytest.mark.parametrize(("input_shape", "n_classes"), list(zip(SHAPES, (2, 100, 200), strict=True)))
@pytest.mark.parametrize("architecture", PARAMETERS)
def test_forward_and_backward_reach_every_parameter(architecture, input_shape, n_classes):
    torch.manual_seed(0)
    model = build_model(architecture, input_shape, n_classes)
    answers = model(torch.randn(2, *input_shape))
    assert answers.shape == (2, n_classes)
    answers.logsumexp(1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("architecture", PARAMETERS)
@pytest.mark.parametrize("input_shape", SHAPES)
def test_only_layers_that_boards_know(architecture, input_shape):
    with torch.device("meta"):
        model = build_model(architecture, input_shape, 10)
    for layer in model.modules():
        if not list(layer.children()):
            assert isinstance(layer, BOARD_LAYERS), layer


@pytest.mark.parametrize("architecture", PARAMETERS)
def test_every_pixel_of_a_28x28_image_counts(architecture):
    torch.manual_seed(0)
    image = torch.randn(1, 1, 28, 28, requires_grad=True)
    build_model(architecture, (1, 28, 28), 10).eval()(image).square().sum().backward()
    assert (image.grad != 0).float().mean() > 0.95


def test_small_images_are_framed_not_refused():
    with torch.device("meta"):
        for architecture in PARAMETERS:
            assert build_model(architecture, (1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_weights_follow_the_global_generator():
    torch.manual_seed(3)
    first = build_model("vgg7", (1, 28, 28), 10).state_dict()
    torch.manual_seed(3)
    second = build_model("vgg7", (1, 28, 28), 10).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_unknown_architecture_says_which_come_close():
    with pytest.raises(PluginError, match="did you mean alexnet"):
        build_model("alexnt", (3, 32, 32), 10)


@pytest.mark.parametrize("architecture", PARAMETERS)
def test_impossible_shapes_are_named(architecture):
    with pytest.raises(ValueError, match=f"{architecture} needs images of at least.*not 3x2x32"):
        build_model(architecture, (3, 2, 32), 10)
    with pytest.raises(ValueError, match=f"{architecture} needs at least 2 classes, not 1"):
        build_model(architecture, (3, 32, 32), 1)


def test_parameters_of_another_model_are_refused_with_its_name():
    task = TrainTask("vgg7", (1, 28, 28), 10, Recipe(0.1), 1, 0)
    other = build_model("vgg7", (1, 28, 28), 11).state_dict()
    with pytest.raises(ValueError, match=r"not of vgg7 \(1x28x28, 10 classes, seed 0\).*size mismatch"):
        load_model(task, other)


def test_load_model_is_in_eval_mode_and_draws_nothing():
    task = TrainTask("resnet20", (1, 8, 8), 10, Recipe(0.1), 1, 0)
    state = build_model("resnet20", (1, 8, 8), 10).state_dict()
    before = torch.get_rng_state()
    assert not load_model(task, state).training
    assert torch.equal(torch.get_rng_state(), before)


@given(
    st.sampled_from(["one_cycle", "cosine", "constant"]),
    st.integers(1, 500),
    st.floats(1e-4, 1.0, allow_nan=False),
)
def test_learning_rate_stays_below_its_peak(schedule, steps, peak):
    recipe = Recipe(peak, schedule=schedule)
    rates = [recipe.learning_rate_at(step, steps) for step in range(steps)]
    assert all(0 < rate <= peak * (1 + 1e-9) for rate in rates)


def test_one_cycle_is_pytorchs():
    recipe, steps = Recipe(0.3), 97
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=steps, cycle_momentum=False)
    for step in range(steps):
        assert recipe.learning_rate_at(step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            schedule.step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"momentum": 0.0}, "nesterov needs a momentum"),
        ({"weight_decay": -1e-4}, "weight_decay must not be negative"),
        ({"schedule": "linear"}, "unknown schedule 'linear': use one_cycle"),
        ({"epochs_factor": 0.0}, "epochs_factor must be above 0"),
    ],
)
def test_bad_recipes_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{"learning_rate": 0.1, **settings})


def test_epochs_factor_never_leaves_nothing():
    assert Recipe(0.1, epochs_factor=0.5).epochs(24) == 12
    assert Recipe(0.1, epochs_factor=0.01).epochs(1) == 1


def test_probabilities_are_a_float64_softmax():
    model = nn.Flatten()
    values = np.array([[[0.0, -80.0, -3.5]], [[17.0, 16.5, -50.0]], [[500.0, 420.0, 499.0]]], np.float32)
    exact = np.exp(values[:, 0].astype(np.float64) - values[:, 0].max(1, keepdims=True))
    exact /= exact.sum(1, keepdims=True)
    found = predict(model, values, batch=2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, exact.astype(np.float32))
    assert found[0, 1] > 0
    assert found[2, 1] > 0


def test_logits_do_not_depend_on_the_number_of_threads_and_leave_the_model_alone():
    model = build_model("alexnet", (3, 32, 32), 10).train()
    images = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    images.setflags(write=False)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = logits(model, images, batch=2)
        torch.set_num_threads(2)
        two = logits(model, images, batch=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert model.training
    assert one.shape == (5, 10)
    np.testing.assert_array_equal(one, two)


def test_no_images_give_no_rows():
    model = build_model("vgg7", (1, 28, 28), 7)
    assert predict(model, np.zeros((0, 1, 28, 28), np.float32)).shape == (0, 7)


def test_threads_are_given_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), inference.one_thread():
        raise KeyError
    assert torch.get_num_threads() == before

"""A small world for attacks that look inside: nets on noise, some of which know it by heart, and a view of one."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from device.board import Answer
from suite import LabelledImages, OutputPolicy, View, split
from suite.attack_model import ReferenceModel, References
from suite.augment import view_of
from suite.graph.export import export_graph
from suite.graph.format import pack_public
from suite.graph.parse import parse
from suite.graph.partition import World
from suite.graph.reference import run_segments
from suite.model import Deployment
from suite.policy import stacked
from suite.view import AdversaryView, Shown
from victims.inference import one_thread, predict

SHAPE, CLASSES, N = (1, 6, 6), 40, 160
REFERENCES = 8


def noise(seed, n=N):
    """Images and labels without any rule: of so many classes that hardly any is right by chance."""
    draw = np.random.default_rng(seed)
    return LabelledImages(draw.standard_normal((n, *SHAPE)).astype(np.float32), draw.integers(0, CLASSES, n))


def halves(seed):
    """bool [2, N]: a random half of the candidates, and the other."""
    known = np.random.default_rng(seed).permutation(np.arange(N) % 2 == 0)
    return np.stack([known, ~known])


@functools.cache
def net(seed, trained):
    """A net with random weights; ``trained``: until it knows the half of the candidates with its seed by heart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(108, 32), nn.ReLU(), nn.Linear(32, CLASSES),
        )  # fmt: skip
    if trained:
        images, known = noise(0), halves(seed // 2)[seed % 2]
        given, wanted = torch.tensor(images.images[known]), torch.tensor(images.labels[known])
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        with one_thread():
            for _ in range(200):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(given), wanted).backward()
                optimizer.step()
    return module.eval()


class Session:
    """Answers as the deployment's board would; whatever ``answers`` computes instead, where it is given."""

    def __init__(self, deployment, answers=None):
        self.deployment, self.answers = deployment, answers or deployment

    def infer(self, images, *, boundary=False):
        crossed = {}
        if boundary:
            held = run_segments(self.deployment.segments, {"image": images})
            for i, segment in enumerate(self.deployment.segments):
                if segment.world is World.TEE:
                    crossed |= {f"step{i}.in{j}": held[t] for j, t in enumerate(segment.graph.inputs)}
                    crossed |= {f"step{i}.out{j}": held[t] for j, t in enumerate(segment.graph.outputs)}
        last = self.answers.segments[-1].graph.outputs[0]
        wide = run_segments(self.answers.segments, {"image": images})[last]
        return Answer(self.deployment.policy.apply(wide), crossed)


def deployment(module, in_tee, policy="probs"):
    """The net with the layers of these numbers, and what follows each, in the TEE."""
    graph = export_graph(module, SHAPE, softmax=True)
    layers, count, hidden = range(len(graph.parameter_nodes())), -1, set()
    for node in graph.nodes:
        count += node.has_parameters
        hidden |= {node.name} if count in in_tee else set()
    assert set(in_tee) <= set(layers)
    return Deployment(split(graph, in_tee=hidden), OutputPolicy.parse(policy))


def view(plugin, laid, trained, answers=None):
    """What ``plugin`` sees of a deployment (that of seed 100) with reference models 0 to 7."""
    session, candidates, people = Session(laid, answers), noise(0), noise(1)
    models = [net(seed, trained) for seed in range(REFERENCES)]
    is_member = np.concatenate([halves(pair) for pair in range(REFERENCES // 2)])
    views = [view_of(candidates.images, index) for index in range(plugin.n_views())]
    apply = laid.policy.apply
    public = parse(pack_public(laid.segments, laid.policy, bytes(16)))
    shown = Shown(
        architecture="net",
        input_shape=SHAPE,
        n_classes=CLASSES,
        policy=laid.policy,
        candidates=candidates,
        outputs=session.infer(candidates.images).outputs,
        shows=laid.shows,
        public=tuple(segment.graph for segment in public.as_segments()),
        public_file=b"",
        boundary={},
        auxiliary=people,
        shadows=(),
        views=stacked([session.infer(images).outputs for images in views]),
        population=session.infer(people.images).outputs,
        population_labels=people.labels,
        references=References(
            stacked([stacked([apply(predict(model, images)) for images in views]) for model in models]),
            is_member,
            stacked([apply(predict(model, people.images)) for model in models]),
        ),
        reference_models=tuple(
            ReferenceModel(functools.partial(net, seed, trained), is_member[seed]) for seed in range(REFERENCES)
        ),
        steps=public.segments,
    )
    return AdversaryView(shown, plugin.needs | {View.QUERY}, session, plugin.uses)

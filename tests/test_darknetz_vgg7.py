"""The network that is compared with DarkneTZ's is DarkneTZ's."""

import torch
from darknetz_vgg7 import INPUT_SHAPE, MACS, DarknetzVgg7

from suite.graph.export import export_graph
from suite.graph.ir import Op
from suite.graph.macs import graph_macs


def test_it_is_exported_with_as_many_multiplications_as_the_original_has():
    graph = export_graph(DarknetzVgg7().eval(), INPUT_SHAPE, softmax=True)
    assert graph_macs(graph) == MACS
    kinds = [node.op for node in graph.nodes if node.op is not Op.RELU]
    stage = [Op.CONV2D, Op.CONV2D, Op.MAX_POOL2D]
    assert kinds == [*stage, *stage, *stage, Op.FLATTEN, Op.LINEAR, Op.LINEAR, Op.SOFTMAX]


def test_it_answers_ten_classes():
    assert DarknetzVgg7().eval()(torch.zeros(2, *INPUT_SHAPE)).shape == (2, 10)

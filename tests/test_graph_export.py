import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from suite.graph.export import IMAGE, UnsupportedOperator, export_graph
from suite.graph.ir import Graph, GraphError, Op
from suite.graph.reference import run_graph


class _Zoo(nn.Module):
    """One of everything, with branches, in-place calls and batch norms that can and cannot be folded."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding="same", bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.depthwise = nn.Conv2d(8, 8, 3, padding=(2, 1), dilation=(2, 1), groups=8)
        self.norm = nn.BatchNorm2d(8, affine=False)
        self.late_norm = nn.BatchNorm2d(16)
        self.down = nn.Conv2d(16, 12, (3, 1), stride=(2, 1), groups=2)
        self.pool = nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False)
        self.drop = nn.Dropout()
        self.hidden = nn.Linear(12, 9)
        self.hidden_norm = nn.BatchNorm1d(9)
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(9, 10, bias=False))

    def forward(self, x):
        x = self.stem(x)
        y = F.relu6(self.norm(self.depthwise(x)))
        z = F.hardtanh(F.relu_(x + y), 0.0, 6.0)
        z = self.late_norm(torch.cat([z, F.max_pool2d(y, 3, 1, 1)], dim=1))
        z = self.pool(self.down(z).clamp(min=0)).contiguous()
        z = z.mean((-2, -1))
        return self.head(F.leaky_relu_(self.hidden_norm(self.hidden(self.drop(z))), 0.2))


def _with_statistics(model: nn.Module) -> nn.Module:
    """Batch norms with scales, shifts and statistics that matter."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model


def _parity(model: nn.Module, graph: Graph, shape: tuple[int, ...], softmax: bool) -> None:
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))
    model.eval()
    with torch.no_grad():
        want = model(images)
    want = torch.softmax(want, 1) if softmax else want
    got = run_graph(graph, {IMAGE: images.numpy()})[graph.outputs[0]]
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


def test_a_model_with_everything_keeps_its_answers():
    model = _with_statistics(_Zoo())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = export_graph(model, (3, 9, 8), softmax=True)
    assert model.training
    assert model.late_norm.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {node.op for node in graph.nodes} == set(Op) - {Op.QUANTIZE, Op.DEQUANTIZE}
    norms = [node.layer for node in graph.nodes if node.op is Op.BATCH_NORM]
    assert norms == ["late_norm"]  # the others sit right behind a layer of their own
    layers = [node.layer for node in graph.parameter_nodes()]
    assert layers == ["stem.0", "depthwise", "late_norm", "down", "hidden", "head"]
    assert graph.inputs == (IMAGE,)
    assert graph.nodes[-1].op is Op.SOFTMAX
    _parity(model, graph, (3, 9, 8), softmax=True)


class _Shared(nn.Module):
    """A convolution that a batch norm and a sum both read: folding would change the sum."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        self.norm(x)  # a dead call
        x = self.conv(self.conv(x))
        return torch.softmax(torch.flatten(x + self.norm(x), 1), dim=-1)


def test_a_batch_norm_stays_where_its_convolution_has_another_reader():
    model = _with_statistics(_Shared())
    graph = export_graph(model, (2, 4, 4), softmax=True)
    assert [node.op for node in graph.nodes] == [
        Op.CONV2D,
        Op.CONV2D,
        Op.BATCH_NORM,
        Op.ADD,
        Op.FLATTEN,
        Op.SOFTMAX,
    ]
    assert [node.layer for node in graph.parameter_nodes()] == ["conv", "conv", "norm"]
    _parity(model, graph, (2, 4, 4), softmax=False)  # its own softmax is not doubled


class _Aliases(nn.Module):
    """``relu_`` changes a tensor that was flattened and read before."""

    def forward(self, x):
        y = F.max_pool2d(x, 2)
        flat = y.flatten(1)
        total = y + y
        y.relu_()
        return flat + total.view(total.size(0), -1)


def test_in_place_calls_reach_all_who_share_the_memory():
    graph = export_graph(_Aliases(), (2, 4, 4), softmax=False)
    _parity(_Aliases(), graph, (2, 4, 4), softmax=False)


class _Calls(nn.Module):
    """Applies ``function`` to the image, in a module called ``body``."""

    class Body(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    def __init__(self, function):
        super().__init__()
        self.body = self.Body(function)

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU()),
            r"aten\.gelu\.default of layer '1' \(GELU\): boards have no",
        ),
        (
            nn.Sequential(nn.ConvTranspose2d(3, 4, 2)),
            r"aten\.conv_transpose2d.* of layer '0' \(ConvTranspose2d\)",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")),
            r"aten\.pad\.default of layer '0' \(Conv2d\)",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, (1, 2), padding="same")),
            r"'0' \(Conv2d\): padding='same' with the even",
        ),
        (
            nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)),
            r"'0' \(BatchNorm2d\).*batch's own statist",
        ),
        (nn.Sequential(nn.Linear(8, 2)), r"aten\.linear.* of layer '0' \(Linear\).*only to rank 2"),
        (nn.Sequential(nn.AvgPool2d(2, divisor_override=3)), r"'0' \(AvgPool2d\): it overrides the divisor"),
        (_Calls(lambda x: x + 1), r"aten\.add\.Tensor of layer 'body' \(Body\): its 'other' is a constant"),
        (_Calls(lambda x: torch.add(x, x, alpha=2)), "alpha is not 1"),
        (_Calls(lambda x: x + x.mean((2, 3), keepdim=True)), r"shapes \(3, 8, 8\) and \(3, 1, 1\)"),
        (_Calls(lambda x: torch.cat([x, x], 2)), "along dimension 2, not along the channels"),
        (_Calls(lambda x: x.reshape(-1)), r"turns \(1, 3, 8, 8\) into \(192,\)"),
        (_Calls(lambda x: x.reshape(1, 6, 4, 8)), "boards only flatten"),
        (_Calls(lambda x: x.clamp(-1, 1)), r"clips to \[-1, 1\]"),
        (nn.Sequential(nn.LeakyReLU(-0.5)), r"'0' \(LeakyReLU\): its slope is -0.5"),
        (_Calls(lambda x: torch.softmax(x, 1)), "only to rank 2"),
        (_Calls(lambda x: F.dropout(x, 0.5, True)), "in eval mode too"),
        (_Calls(lambda x: x.double().relu().float()), "float64"),
        (_Calls(lambda x: F.max_pool2d(x, 2, return_indices=True)[1].float()), "nothing that boards compute"),
    ],
    ids=lambda value: None if isinstance(value, nn.Module) else value[:24],
)
def test_what_boards_cannot_do_is_named_with_its_layer(model, message):
    with pytest.raises(UnsupportedOperator, match=message) as error:
        export_graph(model, (3, 8, 8), softmax=False)
    assert "see suite/graph/ir.py Op" in str(error.value)
    assert "\n" not in str(error.value)


class _Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count += 1
        return x.relu()


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (nn.Conv2d(3, 4, 3), (1, 3, 8, 8), r"\(1, 3, 8, 8\) is neither \(C, H, W\) nor \(F,\)"),
        (nn.Conv2d(3, 4, 3), (4, 8, 8), r"cannot trace Conv2d .*expected input"),
        (nn.Bilinear(3, 3, 2), (3,), "missing a required argument: 'input2'"),
        (nn.Conv2d(3, 4, 3).double(), (3, 8, 8), "'weight' is torch.float64"),
        (_Calls(lambda x: (x.relu(), x)), (3, 8, 8), "2 outputs"),
        (_Calls(lambda x: x), (3, 8, 8), "computes nothing from its input"),
        (_Calls(lambda x: torch.ones(1, 2)), (3, 8, 8), "computes nothing from its input"),
        (_Remembers(), (3,), "changes its buffer 'count'"),
    ],
    ids=lambda value: None if isinstance(value, nn.Module) else str(value)[:24],
)
def test_models_that_are_not_one_image_to_one_answer_are_refused(model, shape, message):
    with pytest.raises(GraphError, match=message) as error:
        export_graph(model, shape, softmax=False)
    assert "\n" not in str(error.value)


def test_a_softmax_needs_classes():
    with pytest.raises(GraphError, match=r"returns \(4, 8, 8\)"):
        export_graph(nn.Conv2d(3, 4, 1), (3, 8, 8), softmax=True)

"""Output policies: what the TA applies in C and what PyTorch's side applies here are the same, to the bit."""

import ctypes
import shutil

import numpy as np
import pytest
from c_build import kernels, pointer
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from suite.policy import OutputPolicy, PolicyKind

policies = (
    st.sampled_from([OutputPolicy(PolicyKind.PROBS), OutputPolicy(PolicyKind.LABEL)])
    | st.builds(OutputPolicy, st.just(PolicyKind.ROUNDED), st.integers(0, 6))
    | st.builds(OutputPolicy, st.just(PolicyKind.TOPK), st.integers(1, 6))
)
ties = st.sampled_from([0.0, 0.5, 0.25, 0.125, 0.375, 0.0625, 0.005, 0.015, 0.1, 1.0, 2.0**-149, np.nextafter(1, 0)])
probabilities = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 6)),
    elements=st.floats(0, 1, width=32) | ties.map(np.float32),
)


def in_c(policy, row):
    out = np.full(len(row), np.nan, np.float32)
    data = np.ascontiguousarray(row)
    error = kernels().lb_policy_apply(
        ctypes.c_uint32(int(policy.kind)),
        ctypes.c_uint32(policy.arg),
        pointer(data),
        ctypes.c_size_t(len(row)),
        pointer(out),
    )
    assert error == 0
    return int(out.view(np.uint32)[0]) if policy.label_only else out


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")
@settings(max_examples=300, deadline=None)
@given(policies, probabilities)
def test_the_c_side_lets_out_the_same(policy, values):
    if policy.kind is PolicyKind.TOPK and policy.arg > values.shape[1]:
        policy = OutputPolicy(PolicyKind.TOPK, values.shape[1])  # a deployment refuses more
    ours = policy.apply(values)
    theirs = np.stack([in_c(policy, row) for row in values])
    np.testing.assert_array_equal(ours, theirs)


@given(policies, probabilities)
def test_properties(policy, values):
    before = values.copy()
    out = policy.apply(values)
    np.testing.assert_array_equal(values, before)
    assert len(out) == len(values)
    if policy.label_only:
        assert out.dtype == np.int64
        assert (values[np.arange(len(values)), out] == values.max(axis=1)).all()
        assert all((row[:label] < row[label]).all() for row, label in zip(values, out, strict=True))
        return
    assert out.dtype == np.float32
    assert out.shape == values.shape
    np.testing.assert_array_equal(policy.apply(out), out)  # once is enough
    if policy.kind is PolicyKind.ROUNDED:
        assert (np.abs(out.astype(np.float64) - values) <= 0.5 * 10.0**-policy.arg + 6e-8).all()
    if policy.kind is PolicyKind.TOPK:
        assert ((out == values) | (out == 0)).all()
        assert ((out != 0).sum(axis=1) <= policy.arg).all()
        np.testing.assert_array_equal(
            -np.sort(-out, axis=1)[:, : policy.arg], -np.sort(-values, axis=1)[:, : policy.arg]
        )


def test_ties_and_halves():
    row = np.array([[0.25, 0.5, 0.5, 0.25]], np.float32)
    assert OutputPolicy.parse("top1").apply(row).tolist() == [1]
    assert OutputPolicy.parse("topk1").apply(row).tolist() == [[0, 0.5, 0, 0]]
    assert OutputPolicy.parse("topk3").apply(row).tolist() == [[0.25, 0.5, 0.5, 0]]
    assert OutputPolicy.parse("topk9").apply(row).tolist() == row.tolist()
    halves = np.array([[0.125, 0.375, 0.5]], np.float32)
    assert OutputPolicy.parse("rounded2").apply(halves).tolist() == np.float32([[0.12, 0.38, 0.5]]).tolist()
    assert OutputPolicy.parse("rounded0").apply(halves).tolist() == [[0, 0, 0]]


@given(policies)
def test_text_round_trip(policy):
    assert OutputPolicy.parse(str(policy)) == policy


@pytest.mark.parametrize(
    "text", ["", "top2", "topk", "topk0", "rounded", "rounded7", "rounded-1", "probs1", "Probs", "topk 3"]
)
def test_bad_text_is_refused(text):
    with pytest.raises(ValueError, match="output policy"):
        OutputPolicy.parse(text)


@pytest.mark.parametrize(("kind", "arg"), [(PolicyKind.PROBS, 1), (PolicyKind.LABEL, 2), (PolicyKind.TOPK, 0)])
def test_bad_arguments_are_refused(kind, arg):
    with pytest.raises(ValueError, match="output policy"):
        OutputPolicy(kind, arg)

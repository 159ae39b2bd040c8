"""Attention in blocks against torch's own."""

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from train import attention
from train.model import new_model


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 70),
    batch=st.integers(1, 3),
    shared=st.integers(1, 2),
    groups=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_blocks_equal_the_fused_kernel_and_so_do_the_gradients(length, batch, shared, groups, seed):
    torch.manual_seed(seed)
    sizes = (batch, shared * groups, length, 8), (batch, shared, length, 8), (batch, shared, length, 8)
    ours = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK", 16)
        got, _ = attention.causal_blocks(torch.nn.Identity(), *ours, None, scaling=0.3)
    want = scaled_dot_product_attention(*theirs, is_causal=True, scale=0.3, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(got, want)
    grad = torch.randn_like(want)
    got.backward(grad)
    want.backward(grad)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_packed_samples_see_only_themselves_in_blocks_and_side_by_side(lengths, seed):
    torch.manual_seed(seed)
    size = sum(lengths)
    query, key, value = inputs = [
        torch.randn(1, heads, size, 8, dtype=torch.float64, requires_grad=True) for heads in (2, 1, 1)
    ]
    starts = [0, *accumulate(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK", 16)
        got, _ = attention.causal_blocks(torch.nn.Identity(), query, key, value, None, cu_seq_lens_q=starts)
        alone = [
            attention.causal_blocks(torch.nn.Identity(), *(x[:, :, a:b] for x in (query, key, value)), None)[0]
            for a, b in pairwise(starts)
        ]
    torch.testing.assert_close(got, torch.cat(alone, 1))
    laid = attention.side_by_side(query, key, value, tuple(starts))
    torch.testing.assert_close(laid, got)
    grad = torch.randn_like(got)
    for a, b in zip(torch.autograd.grad(laid, inputs, grad), torch.autograd.grad(got, inputs, grad), strict=True):
        torch.testing.assert_close(a, b)


def test_the_model_takes_it_by_name():
    model, _ = new_model(0)
    language = model.model.language_model
    ids = torch.randint(0, 600, (2, 300))
    want = language(ids, use_cache=False).last_hidden_state
    language.set_attn_implementation(attention.BLOCKS)
    with pytest.MonkeyPatch.context() as patch:
        used = []
        patch.setattr(attention, "BLOCK", 100)
        real = torch.Tensor.softmax
        patch.setattr(torch.Tensor, "softmax", lambda self, *a, **k: used.append(self.shape[-1]) or real(self, *a, **k))
        got = language(ids, use_cache=False).last_hidden_state
    assert used[:3] == [100, 200, 300]  # it is this attention that ran
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_another_mask_is_refused():
    x = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="mask"):
        attention.causal_blocks(torch.nn.Identity(), x, x, x, torch.zeros(2, 2))

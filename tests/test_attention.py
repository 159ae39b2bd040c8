"""Every way of packed attention against torch's own, sample by sample."""

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from train import attention
from train.model import new_model
from train.precision import half_precision


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    batch=st.integers(1, 3),
    shared=st.integers(1, 2),
    groups=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_packed_samples_see_only_themselves_in_every_way(lengths, batch, shared, groups, seed):
    torch.manual_seed(seed)
    starts = (0, *accumulate(lengths))
    ways = [attention.in_blocks, attention.one_by_one, *([attention.side_by_side] if batch == 1 else [])]
    heads = shared * groups, shared, shared
    inputs = [torch.randn(batch, n, starts[-1], 8, dtype=torch.float64, requires_grad=True) for n in heads]
    alone = [
        scaled_dot_product_attention(*(x[:, :, a:b] for x in inputs), is_causal=True, scale=0.3, enable_gqa=True)
        for a, b in pairwise(starts)
    ]
    want = torch.cat(alone, 2).transpose(1, 2)
    grad = torch.randn_like(want)
    wanted = torch.autograd.grad(want, inputs, grad)
    for way in ways:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attention, "BLOCK", 16)
            got = way(*inputs, starts, 0.3)
        torch.testing.assert_close(got, want)
        for a, b in zip(torch.autograd.grad(got, inputs, grad), wanted, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("able", [True, False])
def test_half_precision_is_used_where_the_processor_multiplies_it(able, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "amx_bf16": able})
    used = []
    for way in ("in_blocks", "one_by_one"):
        real = getattr(attention, way)
        monkeypatch.setattr(attention, way, lambda *a, real=real, way=way: used.append((way, a[0].dtype)) or real(*a))
    x, y = torch.randn(1, 1, 6, 4), torch.eye(2)
    with half_precision(torch.device("cpu")):
        got, _ = attention.packed(torch.nn.Identity(), x, x, x, None, cu_seq_lens_q=(0, 2, 6))
        product = y @ y
    assert used == [("in_blocks", torch.bfloat16) if able else ("one_by_one", torch.float32)]
    assert (got.dtype, product.dtype) == (torch.float32, torch.bfloat16 if able else torch.float32)


@pytest.mark.parametrize("half", [True, False])
def test_the_model_takes_it_by_name(half, monkeypatch):
    model, _ = new_model(0)
    language = model.model.language_model
    ids = torch.randint(0, 600, (2, 300))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        want = language(ids, use_cache=False).last_hidden_state
        language.set_attn_implementation(attention.PACKED)
        used = []
        monkeypatch.setattr(attention, "BLOCK", 100)
        for way in ("in_blocks", "one_by_one"):
            real = getattr(attention, way)
            monkeypatch.setattr(attention, way, lambda *a, real=real, way=way: used.append(way) or real(*a))
        got = language(ids, use_cache=False).last_hidden_state
    assert used == ["in_blocks" if half else "one_by_one"] * len(language.layers)
    torch.testing.assert_close(got, want, atol=0.1 if half else 1e-4, rtol=0.1 if half else 1e-4)


def test_another_mask_is_refused():
    x = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="mask"):
        attention.packed(torch.nn.Identity(), x, x, x, torch.zeros(2, 2))

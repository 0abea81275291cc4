"""Attention as people write it: small modules, each with example inputs, that the fusion has to recognise.

All take ``x`` [batch, length, 24] and most a mask besides; sizes differ from each other, so that mixed-up
axes show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH, LENGTH, WIDTH, HEADS, SIZE = 2, 5, 24, 4, 6
Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def random_input(batch: int = BATCH, length: int = LENGTH) -> Tensor:
    return torch.randn(batch, length, WIDTH)


def padding(batch: int = BATCH, length: int = LENGTH) -> Tensor:
    """Boolean [batch, 1, 1, length]: each row keeps one key less than the row before."""
    kept = length - torch.arange(batch).remainder(length)
    return (torch.arange(length)[None] < kept[:, None])[:, None, None]


class Projected(nn.Module):
    """Separate projections around an attention function of 4-D queries, keys and values."""

    def __init__(self, attend: Attend, kv_heads: int = HEADS, value_size: int = SIZE) -> None:
        super().__init__()
        self.attend, self.kv_heads, self.value_size = attend, kv_heads, value_size
        self.q = nn.Linear(WIDTH, HEADS * SIZE)
        self.k = nn.Linear(WIDTH, kv_heads * SIZE)
        self.v = nn.Linear(WIDTH, kv_heads * value_size)
        self.out = nn.Linear(HEADS * value_size, WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        b, s, _ = x.shape
        q = self.q(x).view(b, s, HEADS, SIZE).transpose(1, 2)
        k = self.k(x).view(b, s, self.kv_heads, SIZE).transpose(1, 2)
        v = self.v(x).view(b, s, self.kv_heads, self.value_size).transpose(1, 2)
        y = self.attend(q, k, v, mask)
        return self.out(y.transpose(1, 2).reshape(b, s, HEADS * self.value_size))


def _weigh(scores: Tensor, v: Tensor) -> Tensor:
    return scores.softmax(-1) @ v


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-1, -2) / math.sqrt(SIZE)


def _causal(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


def _alibi(length: int) -> Tensor:
    slopes = torch.tensor([2.0 ** -(head + 1) for head in range(HEADS)])
    distance = torch.arange(length)[None] - torch.arange(length)[:, None]
    return slopes[:, None, None] * distance


def _repeat(x: Tensor) -> Tensor:
    b, n, t, d = x.shape
    return x[:, :, None].expand(b, n, HEADS // n, t, d).reshape(b, HEADS, t, d)


def _additive(mask: Tensor) -> Tensor:
    return (1.0 - mask.float()) * torch.finfo(torch.float32).min


SDPA: dict[str, Attend] = {
    "sdpa": lambda q, k, v, m: functional.scaled_dot_product_attention(q, k, v),
    "sdpa_bool_mask": lambda q, k, v, m: functional.scaled_dot_product_attention(q, k, v, attn_mask=m),
    "sdpa_additive_mask": lambda q, k, v, m: functional.scaled_dot_product_attention(
        q, k, v, attn_mask=_additive(m)
    ),
    "sdpa_causal": lambda q, k, v, m: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
    "sdpa_scale": lambda q, k, v, m: functional.scaled_dot_product_attention(q, k, v, scale=0.3),
}
SCALES: dict[str, Attend] = {
    "no_scale": lambda q, k, v, m: _weigh(q @ k.transpose(2, 3), v),
    "scale_after": lambda q, k, v, m: _weigh(q @ k.transpose(2, 3) * 0.4, v),
    "scale_after_divided": lambda q, k, v, m: _weigh(q @ k.transpose(2, 3) / math.sqrt(SIZE), v),
    "scale_on_q": lambda q, k, v, m: _weigh((q * 0.4) @ k.transpose(2, 3), v),
    "scale_on_k": lambda q, k, v, m: _weigh(q @ (k / 2.5).transpose(2, 3), v),
    "scale_split": lambda q, k, v, m: _weigh((q * SIZE**-0.25) @ (k.transpose(2, 3) * SIZE**-0.25), v),
    "scale_of_size": lambda q, k, v, m: _weigh(q @ k.transpose(2, 3) / torch.tensor(q.shape[-1]).sqrt(), v),
    "scale_of_head": lambda q, k, v, m: _weigh(
        q @ k.transpose(2, 3) * torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None], v
    ),
    "scale_after_mask": lambda q, k, v, m: _weigh((q @ k.transpose(2, 3) + _alibi(q.shape[2])) * 0.4, v),
}
MASKS: dict[str, Attend] = {
    "additive": lambda q, k, v, m: _weigh(_scores(q, k) + _additive(m), v),
    "subtracted": lambda q, k, v, m: _weigh(_scores(q, k) - (1e4 * (1.0 - m.float())), v),
    "raised_to_the_lowest": lambda q, k, v, m: _weigh(
        torch.max(_scores(q, k) + _additive(m), torch.tensor(torch.finfo(torch.float32).min)), v
    ),
    "filled_then_clamped": lambda q, k, v, m: _weigh(
        _scores(q, k).masked_fill(~m, -math.inf).clamp(min=torch.finfo(torch.float32).min), v
    ),
    "clamped_without_a_mask": lambda q, k, v, m: _weigh(_scores(q, k).clamp(min=-1e38), v),
    "where_minus_infinity": lambda q, k, v, m: _weigh(torch.where(m, _scores(q, k), -math.inf), v),
    "masked_fill_lowest": lambda q, k, v, m: _weigh(
        _scores(q, k).masked_fill(~m, torch.finfo(torch.float32).min), v
    ),
    "masked_fill_1e9": lambda q, k, v, m: _weigh(_scores(q, k).masked_fill(m.logical_not(), -1e9), v),
    "masked_fill_equal_0": lambda q, k, v, m: _weigh(_scores(q, k).masked_fill(m.long() == 0, -math.inf), v),
    "two_masks": lambda q, k, v, m: _weigh(
        _scores(q, k).masked_fill(~m, -math.inf).masked_fill(~_causal(q.shape[2]), -math.inf), v
    ),
    "bias_then_mask": lambda q, k, v, m: _weigh(
        (_scores(q, k) + _alibi(q.shape[2])).masked_fill(~m, torch.finfo(torch.float32).min), v
    ),
    "mask_then_bias": lambda q, k, v, m: _weigh(
        _scores(q, k).masked_fill(~m, -math.inf) + _alibi(q.shape[2]), v
    ),
    "two_biases": lambda q, k, v, m: _weigh(_scores(q, k) + _alibi(q.shape[2]) + _additive(m), v),
    "causal_tril": lambda q, k, v, m: _weigh(_scores(q, k).masked_fill(~_causal(q.shape[2]), -math.inf), v),
    "causal_triu": lambda q, k, v, m: _weigh(
        _scores(q, k) + torch.full((q.shape[2], q.shape[2]), -math.inf).triu(1), v
    ),
    "alibi": lambda q, k, v, m: _weigh(_scores(q, k) + _alibi(q.shape[2]), v),
    "nan_to_zero": lambda q, k, v, m: (lambda p: torch.where(p.isnan(), 0.0, p) @ v)(
        _scores(q, k).masked_fill(~m, -math.inf).softmax(-1)
    ),
    "zero_after": lambda q, k, v, m: (
        _scores(q, k).masked_fill(~m, torch.finfo(torch.float32).min).softmax(-1).masked_fill(~m, 0.0) @ v
    ),
    "times_mask_after": lambda q, k, v, m: (_scores(q, k).masked_fill(~m, -1e30).softmax(-1) * m.float()) @ v,
    "dropout": lambda q, k, v, m: functional.dropout(_scores(q, k).softmax(-1), 0.1, training=False) @ v,
    "softmax_in_float": lambda q, k, v, m: _scores(q, k).softmax(-1, dtype=torch.float32).to(q.dtype) @ v,
}
PRODUCTS: dict[str, Attend] = {
    "einsum": lambda q, k, v, m: torch.einsum(
        "bhij,bhjd->bhid", (torch.einsum("bhid,bhjd->bhij", q, k) * 0.4).softmax(-1), v
    ),
    "bmm": lambda q, k, v, m: torch.bmm(
        torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)).mul(0.4).softmax(-1), v.flatten(0, 1)
    ).view(q.shape[0], HEADS, q.shape[2], v.shape[3]),
    "bmm_masked_4d": lambda q, k, v, m: torch.bmm(
        (
            torch.bmm(q.flatten(0, 1) * 0.4, k.flatten(0, 1).transpose(1, 2)).view(
                q.shape[0], HEADS, q.shape[2], k.shape[2]
            )
            + _additive(m)
        )
        .view(q.shape[0] * HEADS, q.shape[2], k.shape[2])
        .softmax(-1),
        v.flatten(0, 1),
    ).view(q.shape[0], HEADS, q.shape[2], v.shape[3]),
}
SHARED: dict[str, Attend] = {
    "grouped": lambda q, k, v, m: _weigh(_scores(q, _repeat(k)), _repeat(v)),
    "grouped_interleaved": lambda q, k, v, m: _weigh(
        _scores(q, k.repeat_interleave(HEADS // k.shape[1], 1)), v.repeat_interleave(HEADS // v.shape[1], 1)
    ),
    "grouped_sdpa": lambda q, k, v, m: functional.scaled_dot_product_attention(
        q, k, v, attn_mask=m, enable_gqa=True
    ),
    "grouped_tiled": lambda q, k, v, m: _weigh(
        _scores(q, k.repeat(1, HEADS // k.shape[1], 1, 1)), v.repeat(1, HEADS // v.shape[1], 1, 1)
    ),
}


class Packed(nn.Module):
    """One projection for queries, keys and values, unpacked in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        b, s, _ = x.shape
        qkv = self.qkv(x)
        if self.how == "chunk":
            q, k, v = (part.view(b, s, HEADS, SIZE).transpose(1, 2) for part in qkv.chunk(3, -1))
        elif self.how == "slice":
            parts = (qkv[..., i * WIDTH : (i + 1) * WIDTH] for i in range(3))
            q, k, v = (part.view(b, s, HEADS, SIZE).transpose(1, 2) for part in parts)
        elif self.how == "unbind":
            q, k, v = qkv.reshape(b, s, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4).unbind(0)
        elif self.how == "index":
            joint = qkv.reshape(b, s, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4)
            q, k, v = joint[0], joint[1], joint[2]
        else:
            q, k, v = qkv.view(b, s, HEADS, 3 * SIZE).transpose(1, 2).chunk(3, -1)
        y = _weigh(_scores(q, k), v)
        return self.out(y.transpose(1, 2).reshape(b, s, WIDTH))


class OneHead(nn.Module):
    """Attention without an axis of heads, with values of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 8)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores = _scores(self.q(x), self.k(x)).masked_fill(~mask[:, 0], -math.inf)
        return _weigh(scores, self.v(x))


class Cross(nn.Module):
    """Queries of one sequence, keys and values of another, longer one."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.out = (
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, 2 * WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        b, s, _ = x.shape
        q = self.q(x).view(b, s, HEADS, SIZE).transpose(1, 2)
        k, v = (part.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for part in self.kv(memory).chunk(2, -1))
        return self.out(_weigh(_scores(q, k), v).transpose(1, 2).flatten(2))


class Windows(nn.Module):
    """Windows of a batch side by side, a mask per window, and a learned bias per head."""

    def __init__(self, windows: int = 3) -> None:
        super().__init__()
        self.windows, self.qkv = windows, nn.Linear(WIDTH, 3 * WIDTH)
        self.bias = nn.Parameter(torch.randn(HEADS, LENGTH, LENGTH))
        self.register_buffer("mask", torch.where(torch.rand(windows, LENGTH, LENGTH) > 0.7, -100.0, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        n, s, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, s, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4)
        scores = _scores(q, k) + self.bias
        scores = scores.view(n // self.windows, self.windows, HEADS, s, s) + self.mask[None, :, None]
        return _weigh(scores.view(n, HEADS, s, s), v).transpose(1, 2).reshape(n, s, WIDTH)


@dataclass(frozen=True)
class Specimen:
    """A module, its inputs for a batch size that is a multiple of ``unit``, and what it should become."""

    module: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[Tensor, ...]]
    kind: str = "MultiHeadAttention"
    unit: int = 1


def _masked(batch: int) -> tuple[Tensor, Tensor]:
    mask = padding(batch)
    mask[2:] = False  # from the third on, no key at all
    return random_input(batch), mask


_ON_FOUR_AXES = ("scale_of_head", "grouped_tiled")  # something happens to queries or keys after the split


def _kind(name: str) -> str:
    return "Attention" if name in _ON_FOUR_AXES else "MultiHeadAttention"


ZOO: dict[str, Specimen] = {
    **{
        name: Specimen(lambda attend=attend: Projected(attend), _masked, _kind(name))
        for group in (SDPA, SCALES, MASKS, PRODUCTS)
        for name, attend in group.items()
    },
    **{
        name: Specimen(lambda attend=attend: Projected(attend, kv_heads=2), _masked, _kind(name))
        for name, attend in SHARED.items()
    },
    "multi_query": Specimen(lambda: Projected(SHARED["grouped"], kv_heads=1), _masked),
    "wide_values": Specimen(lambda: Projected(SDPA["sdpa"], value_size=7), _masked),
    **{
        f"packed_{how}": Specimen(lambda how=how: Packed(how), _masked)
        for how in ("chunk", "slice", "unbind", "index")
    },
    "packed_by_head": Specimen(lambda: Packed("by_head"), _masked, kind="Attention"),
    "one_head": Specimen(OneHead, _masked),
    "cross": Specimen(Cross, lambda batch: (random_input(batch), random_input(batch, length=9))),
    "windows": Specimen(Windows, lambda batch: (random_input(batch),), unit=3),
}

"""Token merging written down in PyTorch, group by group and sample by sample, for comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass
class Tokens:
    """Tokens [B, T, D] with their sizes [B, T, 1] and where each original token is now [B, T0]."""

    x: torch.Tensor
    size: torch.Tensor
    place: torch.Tensor

    @classmethod
    def single(cls, x: torch.Tensor, size: torch.Tensor | None = None) -> Tokens:
        batch, count, _ = x.shape
        ones = torch.ones(batch, count, 1) if size is None else size
        return cls(x, ones, torch.arange(count).expand(batch, count))

    @property
    def bias(self) -> torch.Tensor:
        """What attention adds to the scores of every key."""
        return self.size.log()[:, None, None, :, 0]

    def restored(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` [B, T, ...] with all original tokens again."""
        return torch.stack([sample[place] for sample, place in zip(x, self.place, strict=True)])


def merge(
    tokens: Tokens, keys: torch.Tensor, r: int, protected: int, padding: torch.Tensor | None = None
) -> Tokens:
    """Bipartite soft matching on ``keys`` [B, heads, T, d]; ``protected`` tokens lead and stay.

    ``padding`` [B, T] (bool): merges with its own kind, and first.
    """
    batch, count = tokens.x.shape[:2]
    metric = torch.nn.functional.normalize(keys.mean(1), dim=-1)
    even = [i for i in range(0, count, 2) if i >= protected]
    odd = [i for i in range(1, count, 2) if i >= protected]
    r = min(r, (count - protected) // 2)
    xs, sizes, places = [], [], []
    for b in range(batch):
        likeness = metric[b][even] @ metric[b][odd].T
        if padding is not None:
            mine, other = padding[b][even][:, None], padding[b][odd][None]
            likeness = likeness + 4.0 * (mine & other) - 4.0 * (mine & ~other) - 8.0 * (~mine & other)
        best, to = likeness.max(-1)
        order = best.argsort(descending=True).tolist()
        stay = sorted(order[r:]) if protected else order[r:]
        groups = [[i] for i in range(protected)] + [[even[i]] for i in stay] + [[j] for j in odd]
        for i in order[:r]:
            groups[protected + len(stay) + int(to[i])].append(even[i])
        x, s = tokens.x[b], tokens.size[b]
        xs.append(torch.stack([(x[g] * s[g]).sum(0) / s[g].sum(0) for g in groups]))
        sizes.append(torch.stack([s[g].sum(0) for g in groups]))
        now = {old: new for new, group in enumerate(groups) for old in group}
        places.append(torch.tensor([now[int(p)] for p in tokens.place[b]]))
    return Tokens(torch.stack(xs), torch.stack(sizes), torch.stack(places))


Layer = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def encode(
    x: torch.Tensor, attentions: list[Layer], mlps: list[Callable[[torch.Tensor], torch.Tensor]],
    amounts: list[int], protected: int, padding: torch.Tensor | None = None,
) -> Tokens:  # fmt: skip
    """Runs layers whose attention halves map (x, bias [B, 1, 1, T]) to (x, keys) and merges in between."""
    size = None if padding is None else torch.where(padding, 1e-30, 1.0)[..., None]
    tokens = Tokens.single(x, size)
    for attention, mlp, r in zip(attentions, mlps, amounts, strict=True):
        tokens.x, keys = attention(tokens.x, tokens.bias)
        if r:
            gone = None if padding is None else tokens.size[..., 0] < 0.5
            tokens = merge(tokens, keys, r, protected, gone)
        tokens.x = mlp(tokens.x)
    return tokens

"""Token merging written down in PyTorch, group by group and sample by sample, for comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass
class Tokens:
    """Tokens [B, T, D] with their sizes [B, T, 1], where each original token is now [B, T0], and which
    original token each one has the position of [B, T]."""

    x: torch.Tensor
    size: torch.Tensor
    place: torch.Tensor
    index: torch.Tensor

    @classmethod
    def single(cls, x: torch.Tensor, size: torch.Tensor | None = None) -> Tokens:
        batch, count, _ = x.shape
        ones = torch.ones(batch, count, 1) if size is None else size
        places = torch.arange(count).expand(batch, count)
        return cls(x, ones, places, places)

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
    xs, sizes, places, indices = [], [], [], []
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
        indices.append(tokens.index[b][[group[0] for group in groups]])
    return Tokens(*map(torch.stack, (xs, sizes, places, indices)))


def attention_paid(q: torch.Tensor, k: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
    """Probabilities [B, heads, T, T] without attention to padding; rows of padding are 0."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if padding is None:
        return scores.softmax(-1)
    paid = scores.masked_fill(padding[:, None, None], float("-inf")).softmax(-1)
    return paid * ~padding[:, None, :, None]


def most_seen(
    q: torch.Tensor, k: torch.Tensor, left: int, protected: int, padding: torch.Tensor | None, score: str
) -> torch.Tensor:
    """The ``left`` unprotected tokens that receive most attention, from all or from the first, in order."""
    paid = attention_paid(q, k, padding)
    total = (paid[:, :, :1] if score == "class" else paid).sum((1, 2))
    return total[:, protected:].topk(left).indices.sort().values + protected


def drop(
    tokens: Tokens, q: torch.Tensor, k: torch.Tensor, left: int, protected: int,
    padding: torch.Tensor | None = None, score: str = "received",
) -> Tokens:  # fmt: skip
    """Leaves only the tokens that are seen most; one that is gone is where the last kept before it is."""
    kept = most_seen(q, k, left, protected, padding, score)
    xs, sizes, places, indices = [], [], [], []
    for b, chosen in enumerate(kept.tolist()):
        stay = [*range(protected), *chosen]
        now = [max(sum(old <= place for old in stay) - 1, 0) for place in range(tokens.x.shape[1])]
        xs.append(tokens.x[b][stay])
        sizes.append(tokens.size[b][stay])
        places.append(torch.tensor([now[int(p)] for p in tokens.place[b]]))
        indices.append(tokens.index[b][stay])
    return Tokens(*map(torch.stack, (xs, sizes, places, indices)))


def mix(
    tokens: Tokens, q: torch.Tensor, k: torch.Tensor, left: int, protected: int,
    padding: torch.Tensor | None = None, score: str = "received",
) -> Tokens:  # fmt: skip
    """A few tokens take up all the others, by likeness of keys; each old one is where most of it went."""
    kept = most_seen(q, k, left, protected, padding, score)
    unit = torch.nn.functional.normalize(k.mean(1), dim=-1)
    xs, sizes, places, indices = [], [], [], []
    for b, chosen in enumerate(kept.tolist()):
        free = tokens.size[b][protected:, 0]
        likeness = unit[b][chosen] @ unit[b][protected:].T / 0.1 + free.log()
        if padding is not None:
            other_kind = padding[b][chosen][:, None] != padding[b][protected:][None]
            likeness = likeness.masked_fill(other_kind, -1e5)
        m = likeness.softmax(-1)
        xs.append(torch.cat([tokens.x[b][:protected], m @ tokens.x[b][protected:]]))
        share = m / m.sum(0).clamp_min(1e-30)
        sizes.append(torch.cat([tokens.size[b][:protected], (share @ free)[:, None]]).clamp_min(1e-30))
        now = [*range(protected), *(m.argmax(0) + protected).tolist()]
        places.append(torch.tensor([now[int(p)] for p in tokens.place[b]]))
        indices.append(tokens.index[b][[*range(protected), *chosen]])
    return Tokens(*map(torch.stack, (xs, sizes, places, indices)))


Heads = tuple[torch.Tensor, torch.Tensor]  # queries and keys, [B, heads, T, d]
Layer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, Heads]]


def encode(
    x: torch.Tensor, attentions: list[Layer], mlps: list[Callable[[torch.Tensor], torch.Tensor]],
    amounts: Sequence[int | float], protected: int, padding: torch.Tensor | None = None,
    method: str = "tome", score: str = "received",
) -> Tokens:  # fmt: skip
    """Runs layers whose attention halves map (x, bias [B, 1, 1, T], index [B, T]) to x and queries and keys.

    Args:
        amounts: per layer, how many tokens go in between, or (a float) the share that stays.
    """
    size = None if padding is None else torch.where(padding, 1e-30, 1.0)[..., None]
    tokens, gone = Tokens.single(x, size), padding
    for attention, mlp, amount in zip(attentions, mlps, amounts, strict=True):
        bias = tokens.bias
        if method in ("prune", "pyramid") and gone is not None:
            bias = torch.where(gone, float("-inf"), 0.0)[:, None, None]
        tokens.x, (q, k) = attention(tokens.x, bias, tokens.index)
        free = tokens.x.shape[1] - protected
        left = free - amount if isinstance(amount, int) else math.ceil(amount * free - 1e-6)
        if left < free:
            if method == "tome":
                tokens = merge(tokens, k, free - left, protected, gone)
            else:
                reduce = mix if method == "transform" else drop
                tokens = reduce(tokens, q, k, max(left, min(free, 1)), protected, gone, score)
            gone = None if padding is None else tokens.size[..., 0] < 0.5
        tokens.x = mlp(tokens.x)
    return tokens

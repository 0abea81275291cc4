"""What static quantization is asked to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .sites import Site


def every_site(site: Site) -> str | None:
    """Leaves nothing out."""
    return None


@dataclass(frozen=True)
class Settings:
    """The options of int8-static.

    Attributes:
        calibrate: how ranges are chosen: minmax, percentile, entropy or mse.
        per_channel: one scale per output channel of the weights, instead of one per tensor.
        bias_correct: fold the mean error of each site into its bias.
        equalize: even out the ranges of channels between convolutions.
        room: how many times as far ranges reach as samples suggest, for others that are larger.
        leave: a reason why a site stays in float, or None.
    """

    calibrate: str = "minmax"
    per_channel: bool = True
    bias_correct: bool = True
    equalize: bool = True
    room: float = 1.0
    leave: Callable[[Site], str | None] = every_site

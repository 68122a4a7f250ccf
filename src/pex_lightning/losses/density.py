"""The loss of a density ratio, and the priorities that balanced replay makes of it (Off2On).

A network w(s, a) ≥ 0 learns the ratio of the density of online rows to that of offline rows, by
the variational form of the Jensen-Shannon divergence (arXiv 2107.00591, section 3.2; Nguyen et
al., arXiv 0809.0853):

- `L_w = E_offline[−log(2 / (w + 1))] − E_online[log(2 w / (w + 1))]`

It is least where w is the ratio. The priority of a row is `w^(1/T) / E_offline[w^(1/T)]`.
"""

from __future__ import annotations

from torch import Tensor

LEAST_PRIORITY = 1e-3
LARGEST_PRIORITY = 1e3
_SMALL = 1e-10


def density_ratio_loss(offline_ratio: Tensor, online_ratio: Tensor) -> Tensor:
    """L_w, a scalar.

    Args:
        offline_ratio: w of rows drawn uniformly from the dataset, `[B]`.
        online_ratio: w of rows drawn uniformly from what was collected, `[B]`.
    """
    offline = -(2.0 / (offline_ratio + 1.0)).log()
    # w can be 0 exactly.
    online = (2.0 * online_ratio / (online_ratio + 1.0) + _SMALL).log()
    return offline.mean() - online.mean()


def density_priority(ratio: Tensor, offline_ratio: Tensor, temperature: float) -> Tensor:
    """Priorities of rows, `[N]`, clamped to [0.001, 1000].

    Args:
        ratio: w of these rows, `[N]`.
        offline_ratio: w of rows drawn uniformly from the dataset, `[B]`, whose mean priority is 1.
        temperature: T; larger makes priorities more equal.
    """
    mean = (offline_ratio ** (1.0 / temperature)).mean().clamp(min=_SMALL)
    return (ratio ** (1.0 / temperature) / mean).clamp(LEAST_PRIORITY, LARGEST_PRIORITY)

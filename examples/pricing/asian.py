"""Options on an average of prices, by simulation. Plain NumPy, which knows nothing about mob.

The arithmetic average has no closed form. The geometric one has, and the two move together: the simulation makes
similar errors for both. So the known one corrects the unknown one (a control variate).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

PIECE = 2048
"""Number of paths at a time: as many as fit into the cache of a core."""


@dataclass(frozen=True)
class Option:
    """The right to receive the average price of a share over the option's life for a fixed price."""

    strike: float
    years: float = 1.0
    spot: float = 100.0
    rate: float = 0.03
    volatility: float = 0.25


def moments(option: Option, normals: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the statistics of some paths (a row of normals each): their number, and sums of payoffs and of products.

    The statistics of several parts can be added up, whichever process simulated them.
    """
    sums, products = np.zeros(2), np.zeros((2, 2))
    step = option.years / normals.shape[1]
    drift = (option.rate - option.volatility**2 / 2) * step
    discount = math.exp(-option.rate * option.years)
    for first in range(0, len(normals), PIECE):
        moves = normals[first : first + PIECE] * np.float32(option.volatility * math.sqrt(step)) + np.float32(drift)
        logs = np.cumsum(moves, axis=1)
        averages = np.array([np.exp(logs).mean(axis=1), np.exp(logs.mean(axis=1))], "f8")
        payoffs = discount * np.maximum(option.spot * averages - option.strike, 0)
        sums += payoffs.sum(axis=1)
        products += payoffs @ payoffs.T
    return len(normals), sums, products


def estimates(option: Option, steps: int, count: int, sums: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Return price and standard error for the arithmetic average, then for the geometric one as simulated."""
    means = sums / count
    (variance, shared), (_, control) = products / count - np.outer(means, means)
    slope = shared / control
    price = means[0] - slope * (means[1] - geometric(option, steps))
    return np.array(
        [
            [price, math.sqrt(max(variance - slope * shared, 0) / count)],
            [means[1], math.sqrt(control / count)],
        ]
    )


def geometric(option: Option, steps: int) -> float:
    """Return the price for the geometric average over that many steps: a formula like that of Black and Scholes."""
    drift = (option.rate - option.volatility**2 / 2) * option.years * (steps + 1) / (2 * steps)
    spread = option.volatility * math.sqrt(option.years * (steps + 1) * (2 * steps + 1) / (6 * steps**2))
    above = (math.log(option.spot / option.strike) + drift) / spread
    forward = option.spot * math.exp(drift + spread**2 / 2)
    discount = math.exp(-option.rate * option.years)
    return discount * (forward * _normal(above + spread) - option.strike * _normal(above))


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2

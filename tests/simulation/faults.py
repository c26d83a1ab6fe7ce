"""What goes wrong, and how often; the dials that an episode turns."""

from __future__ import annotations


class Faults:
    """The chances of faults, at this moment."""

    __slots__ = (
        "are_over",
        "bad_code",
        "crashes",
        "deaths_at_steps",
        "failing_boots",
        "is_scarce",
        "shortages",
        "slow_boots",
    )

    def __init__(self) -> None:
        self.slow_boots = 0.05
        """Boots that take longer, perhaps longer than the `boot_timeout`."""
        self.failing_boots = 0.02
        self.deaths_at_steps = 0.0003
        """Deaths at each of the steps at which a death is told apart from one a moment later."""
        self.crashes = 0.1
        """Calls of `crash` that kill."""
        self.shortages = 0.005
        """Launches, and starts of a fork server, for which the system has nothing left."""
        self.is_scarce = False
        """Whether it has nothing left for any of them at this moment."""
        self.bad_code: dict[str, None] = {}
        """Roles whose new code cannot be imported."""
        self.are_over = False

    def __repr__(self) -> str:
        return f"<Faults {'over' if self.are_over else 'on'}>"

    def cease(self) -> None:
        """Nothing goes wrong any more."""
        self.slow_boots = self.failing_boots = self.deaths_at_steps = self.crashes = self.shortages = 0.0
        self.is_scarce = False
        self.bad_code.clear()
        self.are_over = True

"""What became of everything that was published to somebody: the numbers add up (spec section 9)."""

from __future__ import annotations

from collections import Counter

DROPS = ("slow", "gone", "gap", "superseded")
OUTCOMES = ("sent", "replayed", *DROPS)


class Accounts:
    """Pairs of a delivery and a member that was to get it, by what became of them.

    `owed` are all of them: whoever is away is counted when it comes back, or does not. What was sent in vain, as the
    client had lost its connection, changes its outcome when that is known, unless a later update tells the same.
    """

    def __init__(self) -> None:
        self.owed = 0
        # To connections, as it was published and again.
        self.handed = 0
        self.outcomes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))

    def sent(self, number: int) -> None:
        """So many members got a delivery as it was published."""
        self.owed += number
        self.handed += number
        self.outcomes["sent"] += number

    def became(self, superseded: int) -> dict[str, int]:
        """Return how many there are of each outcome, so many of those sent having been superseded while they waited."""
        sent = self.outcomes["sent"] - superseded
        return {**self.outcomes, "sent": sent, "superseded": self.outcomes["superseded"] + superseded}

    def abandoned(self, number: int) -> None:
        """A replay ended with so many that were not sent: as if they had been, in vain as those before them."""
        self.owed += number
        self.outcomes["sent"] += number

    def replayed(self, number: int, *, in_vain: int, again: int) -> None:
        """So many were sent to somebody who is back, `in_vain` of them sent before, others replayed `again`."""
        self.handed += number
        self._again("replayed", number - again, in_vain)

    def dropped(self, reason: str, number: int, *, in_vain: int = 0) -> None:
        """So many will not be sent, and so many more were sent in vain."""
        self._again(reason, number + in_vain, in_vain)

    def _again(self, outcome: str, number: int, in_vain: int) -> None:
        self.owed += number - in_vain
        self.outcomes["sent"] -= in_vain
        self.outcomes[outcome] += number

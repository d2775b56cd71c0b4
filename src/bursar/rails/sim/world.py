"""What all simulated rails share: units of time, how far reads lag, and how hostile the world is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

SECOND = 1_000_000
LAG, SKEW = 8 * SECOND, 2 * SECOND  # the most that a read is behind without saying so; that clocks are apart

Pause = Callable[[], Awaitable[None]]


class Trouble(Struct):
    """How hostile this world is, 0 to 1 each. A seed draws each on its own: one strong fault finds more than ten
    faint ones."""

    lost_question: float = 0.0
    lost_answer: float = 0.0
    late: float = 0.0
    slow_reply: float = 0.0
    stale: float = 0.0
    cut_short: float = 0.0
    crash: float = 0.0
    stall: float = 0.0
    reorg: float = 0.0
    refusal: float = 0.0
    spurious: float = 0.0  # wake-ups without a cause
    slow_commit: float = 0.0  # transactions that stay open
    coarse: float = 0.0  # clocks that show whole seconds
    blind: float = 0.0  # a source that answers nothing for a while
    late_commit: float = 0.0  # a COMMIT that happens after its caller was told that the connection is lost
    lie: float = 0.0  # a node says another amount than the block holds
    renege: float = 0.0  # a rail takes what it had promised to refuse

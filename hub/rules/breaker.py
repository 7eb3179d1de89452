"""A circuit breaker as a value, with time passed in.

Closed, it lets everything through and counts failures in a row. So many of them open it, and nothing is let
through for a while. Then it is half-open: one job at a time, the probe, shows whether it closes or opens again.
Probes are callers' own requests; the hub never makes one up.
"""

from typing import Literal

from ..settings import Breakers

BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Times are seconds on one clock, the caller's choice."""

    __slots__ = ("_open", "_probing", "_rules", "failures", "rests_until")

    def __init__(self, rules: Breakers) -> None:
        self._rules = rules
        self._open = False
        self._probing = False
        self.failures = 0
        """In a row."""
        self.rests_until = 0.0
        """When a job may be offered again; a time in the past if it may be now, a probe in hand aside."""

    def state(self, now: float) -> BreakerState:
        if not self._open:
            return "closed"
        return "half_open" if self._probing or now >= self.rests_until else "open"

    def admits(self, now: float) -> bool:
        """Whether a job may be offered now."""
        return not self._open or (now >= self.rests_until and not self._probing)

    def offered(self) -> bool:
        """A job that was admitted is on its way; whether it is the probe."""
        self._probing = self._open
        return self._probing

    def succeeded(self, now: float) -> bool:
        """A job was answered; whether this closed the breaker. While it is open, old jobs prove nothing."""
        if self.state(now) == "open":
            return False
        self.failures = 0
        self.rests_until = 0.0
        closed, self._open, self._probing = self._open, False, False
        return closed

    def failed(self, now: float) -> bool:
        """A job failed; whether this opened the breaker."""
        if self.state(now) == "open":
            return False
        self.failures += 1
        if not self._open and self.failures < self._rules.failure_threshold:
            return False
        self._open, self._probing = True, False
        self.rests_until = now + self._rules.recovery_time_s
        return True

    def unproven(self, now: float) -> bool:
        """The probe ended without showing anything: its caller left, or it was refused. Whether it was one."""
        if not self._probing:
            return False
        self._probing = False
        self.rests_until = now + self._rules.health_check_interval_s
        return True

    def restore(self, failures: int, rests_until: float) -> None:
        """Take up what an earlier run of the hub knew."""
        self.failures = failures
        self.rests_until = rests_until
        self._open = rests_until > 0

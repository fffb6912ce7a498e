"""The loop of a consumer: read messages, score them, write their answers, until it is stopped."""

import logging
import signal
import time
from collections.abc import Callable
from typing import Any, TypeVar

from serving.batch.stats import BatchError
from serving.streams.messages import Broker, BrokerUnavailable
from serving.streams.scoring import MessageScorer

FIRST_RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 15.0
LAG_INTERVAL_SECONDS = 5.0
# A second passes between two turns, or the time of a batch. With none for as long, the loop hangs.
HANGING_SECONDS = 60.0
WAIT_SECONDS = 0.1  # after which a wait looks for a signal

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Consumer:
    """Answers the messages of a broker, and waits while the broker is away."""

    def __init__(self, broker: Broker, scorer: MessageScorer, name: str) -> None:
        self.broker = broker
        self.scorer = scorer
        self.name = name
        self.is_connected = False
        self.n_outages = 0
        self.lag: int | None = None
        self._is_stopping = False
        self._last_turn_at = time.monotonic()
        self._next_lag_at = 0.0

    @property
    def is_alive(self) -> bool:
        """Return whether the loop goes on; while the broker is away it does."""
        return time.monotonic() - self._last_turn_at < HANGING_SECONDS

    def stop_on_signals(self) -> None:
        """End the loop after the current messages when SIGTERM or SIGINT comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, *_: Any) -> None:
        self._is_stopping = True

    def run(self) -> None:
        """Answer messages until a signal comes.

        Raises BatchError if the broker cannot be reached at first, or refuses what is asked.
        """
        try:
            self.broker.connect()
        except BrokerUnavailable as error:
            raise BatchError(str(error)) from error
        self.is_connected = True
        log.info("reading %s, model version %s", self.name, self.scorer.model.version)

        while not self._is_stopping:
            messages = self._attempt(self.broker.read)
            if messages:
                answers = self.scorer.score(messages)
                self._write(answers)
            self._measure_lag()
        self._close()
        counts = self.scorer.counts
        log.info(
            "stopped after %d messages, of which %d with an error",
            counts.total,
            counts.rejected + counts.failed,
        )

    def _write(self, answers: list[Any]) -> None:
        self._attempt(self.broker.write, answers, self.scorer.model.version)
        if not self.is_connected:
            raise BatchError(
                f"stopped while the broker was away: {len(answers)} messages were read and not "
                "answered, and will be delivered again"
            )

    def _measure_lag(self) -> None:
        if time.monotonic() >= self._next_lag_at and self.is_connected:
            self.lag = self._attempt(self.broker.lag)
            self._next_lag_at = time.monotonic() + LAG_INTERVAL_SECONDS

    def _close(self) -> None:
        if not self.is_connected:
            return
        try:
            self.broker.close()
        except BrokerUnavailable as error:
            log.warning("could not leave the group: %s", error)

    def _attempt(self, call: Callable[..., Result], *arguments: Any) -> Result | None:
        """Return the result of a call that is repeated while the broker is away.

        If a signal comes meanwhile, return None. Raises BatchError.
        """
        delay = FIRST_RETRY_SECONDS
        while True:
            self._last_turn_at = time.monotonic()
            try:
                result = call(*arguments)
            except BrokerUnavailable as error:
                self._begin_outage(error)
            else:
                self._end_outage()
                return result

            if self._wait(delay):
                return None
            delay = min(2 * delay, MAX_RETRY_SECONDS)

    def _begin_outage(self, error: BrokerUnavailable) -> None:
        if self.is_connected:
            self.is_connected = False
            self.lag = None
            self.n_outages += 1
            self._outage_began_at = time.monotonic()
            log.warning("the broker is away, trying again: %s", error)

    def _end_outage(self) -> None:
        if not self.is_connected:
            self.is_connected = True
            seconds = time.monotonic() - self._outage_began_at
            log.warning("the broker is back after %.1f s", seconds)

    def _wait(self, seconds: float) -> bool:
        """Wait, and return whether a signal has come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._is_stopping:
            time.sleep(WAIT_SECONDS)
        return self._is_stopping

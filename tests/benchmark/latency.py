"""Round trips of one record: produced, acknowledged, consumed.

`trips` runs one at a time (the broker idle otherwise): from the call of produce until flush has returned
and the consumer holds the record. `rate` sends on a fixed schedule, whatever the answers do, and counts
from the moment a record was due to its arrival at the consumer: a stall delays every record that was due
in it, and all of them count. Both brokers get the same rate: half of the highest that the slower of the
two keeps up with (one record per request, produced and consumed at the same time; a backlog is worked off
in larger fetches, so what a burst reaches is more than that).
Client: bench_client over librdkafka, two handles in one process; on an idle machine its own share
(thread wake-ups on both handles) is most of the 0.1-0.2 ms that remain with a fast broker.
Runs in: the benchmark process.
"""
from __future__ import annotations

from tests.benchmark.harness import Bench, Broker, CpuMeter, note, temporary_topic
from tests.benchmark.report import Measure

RECORD_BYTES = 100
TRIPS = 5000
TRIPS_WARM_UP = 1000
RATE_SECONDS = 10
RATE_SECONDS_MIN = 3
WARM_UP_SECONDS = 1  # sent on the same schedule before, by bench_client, and not in its latencies
CALIBRATION_RECORDS = 50_000
CALIBRATIONS = 3
CALIBRATION_SECONDS = 2
SHARES_OF_BURST = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2)
KEEPS_UP_P50_MS_MAX = 10


def _percentiles(result: dict[str, float]) -> list[Measure]:
    names = (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us"))
    return [Measure(name, result[key] / 1000, "ms") for name, key in names]


class IdleRoundTrip:
    name = "trips"
    title = "round trip at idle, 100 B"

    def prepare(self, bench: Bench, broker: Broker) -> None:
        self._run(bench, broker, TRIPS_WARM_UP)

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        return _percentiles(self._run(bench, broker, bench.count(TRIPS)))

    def _run(self, bench: Bench, broker: Broker, count: int) -> dict[str, float]:
        with temporary_topic(broker) as topic:
            return bench.clients.latencies("trips", broker.bootstrap, topic, str(count), str(RECORD_BYTES))

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """Every topic is gone already."""


class FixedRateRoundTrip:
    name = "rate"
    title = "round trip at half the peak request rate, 100 B"

    def __init__(self) -> None:
        self._peaks: list[float] = []

    def prepare(self, bench: Bench, broker: Broker) -> None:
        """Finds this broker's peak; the rate is half of the lowest that was found."""
        burst = max(self._burst(bench, broker) for _ in range(CALIBRATIONS))
        for share in SHARES_OF_BURST:
            peak = int(burst * share)
            if self._run(bench, broker, peak, CALIBRATION_SECONDS)["p50_us"] / 1000 <= KEEPS_UP_P50_MS_MAX:
                break
        self._peaks.append(peak)
        note(f"{self.name}: {broker.name} keeps up with {peak} records/s, a burst went at {burst:.0f}")

    def _burst(self, bench: Bench, broker: Broker) -> float:
        """Records per second when all are due at once."""
        with temporary_topic(broker) as topic:
            where = (broker.bootstrap, topic)
            result = bench.clients.latencies("peak", *where, str(CALIBRATION_RECORDS), str(RECORD_BYTES))
        return result["per_second"]

    def _run(self, bench: Bench, broker: Broker, rate: int, seconds: int) -> dict[str, float]:
        with temporary_topic(broker) as topic:
            where = (broker.bootstrap, topic)
            return bench.clients.latencies("rate", *where, str(rate), str(seconds), str(RECORD_BYTES))

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        rate = min(self._peaks) // 2
        seconds = max(RATE_SECONDS_MIN, int(RATE_SECONDS * bench.scale))
        with CpuMeter(broker) as cpu:
            result = self._run(bench, broker, rate, seconds)
        cpu_ms = cpu.seconds / (rate * (seconds + WARM_UP_SECONDS)) * 1e6
        return [
            Measure("requests sent", rate / 1000, "k/s"),
            *_percentiles(result),
            Measure("broker CPU", cpu_ms, "ms/1000 records in and out"),
        ]

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """Every topic is gone already."""

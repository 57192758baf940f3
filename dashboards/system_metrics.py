"""What the machine does while a sweep runs, as MLflow's own system metrics of the sweep's run."""

import logging
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric

if TYPE_CHECKING:
    from mlflow import MlflowClient

_EVERY_S = 10.0
_GROWTH = 1 / 60
"""The rest grows with the time since the start, so that a weekend does not leave more than some hundreds of samples."""
_HELD = 20_000
"""Numbers that wait for an MLflow that is down; the oldest go first."""
_BATCH = 1000


class SystemMetrics:
    """CPU, memory, disk, network and NVIDIA GPUs of this machine, now and then.

    MLflow's own thread for this ends for good at the first request that fails; here numbers wait until MLflow is back.
    """

    def __init__(self) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor(), *_gpus()]
        self._started = time.time()
        self._next = 0.0
        self._waiting = deque[Metric](maxlen=_HELD)

    @property
    def seconds_left(self) -> float:
        """Seconds until the next sample is due."""
        return max(0.0, self._next - time.time())

    def sample(self) -> None:
        """Take numbers, if it is time."""
        now = time.time()
        if now < self._next:
            return
        self._next = now + max(_EVERY_S, _GROWTH * (now - self._started))
        for monitor in self._monitors:
            monitor.collect_metrics()
            for name, value in monitor.aggregate_metrics().items():
                key = f"system/{socket.gethostname()}/{name}"
                self._waiting.append(Metric(key, float(value), int(1000 * now), int(now - self._started)))
            monitor.clear_metrics()

    def send(self, client: "MlflowClient", run_id: str) -> None:
        """Pass on what was taken; what MLflow does not accept stays for the next time."""
        while self._waiting:
            batch = [self._waiting[number] for number in range(min(_BATCH, len(self._waiting)))]
            client.log_batch(run_id, metrics=batch)
            for _ in batch:
                self._waiting.popleft()


def _gpus() -> list[Any]:
    """The monitor of NVIDIA's GPUs, where there are any."""
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
    try:
        return [GPUMonitor()]
    except Exception:  # NVML has errors of its own; without it there is no GPU to watch
        return []

"""How many threads pay: one per physical core that this process may use."""

from __future__ import annotations

import os


def physical_cores() -> int:
    """Physical cores among the CPUs that this process may use; never more than those CPUs."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_core_of(cpu) for cpu in usable}
    return max(1, min(len(cores), len(usable)))


def _core_of(cpu: int) -> str:
    try:
        with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:  # not Linux, or no sysfs in this container
        return str(cpu)

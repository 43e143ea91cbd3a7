"""The supervisor of a local Ray: starts it, says where it is, and ends with it.

A program of its own (``python -m fairlead.wiring.local_ray_head SETTINGS PIPE LOCK``), so that Ray outlives the command
that wanted it. All of Ray's processes are in its session.
"""

import json
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairlead.atomic import write_atomic
from fairlead.wiring import processes

_WATCH_SECONDS = 2.0


def main() -> int:
    """Detach, start Ray, write the state, wait for the end."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    pipe, lock = int(sys.argv[2]), int(sys.argv[3])
    for descriptor in (pipe, lock):
        os.set_inheritable(descriptor, False)
    if os.fork():
        os._exit(0)  # the one who asked waits for this process only
    os.setsid()
    os.write(pipe, f"pid {os.getpid()}\n".encode())
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())

    import ray

    try:
        context = ray.init(
            address="local",
            num_cpus=settings["num_cpus"],
            object_store_memory=settings["object_store_bytes"],
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=settings["temp_dir"],
        )
        state = Path(settings["folder"]) / "local.json"
        value = {
            "address": context.address_info["address"],
            "pid": os.getpid(),
            "process_start": processes.start_of(os.getpid()),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "temp_dir": settings["temp_dir"],
            "num_cpus": settings["num_cpus"],
            "object_store_bytes": settings["object_store_bytes"],
        }
        written = json.dumps(value, indent=1).encode()
        write_atomic(state, written, mode=0o600)
        _tell(pipe, "ready\n")
        os.close(lock)  # who waited for it finds the state file now
        while not ended.wait(_WATCH_SECONDS):
            if not state.is_file() or state.read_bytes() != written:
                break  # the project's folder is gone, or another Ray has taken this one's place
        ray.shutdown()
    finally:
        others = [pid for pid in processes.session_members(os.getsid(0)) if pid != os.getpid()]
        processes.end(others, grace_seconds=0.5)
    return 0


def _tell(pipe: int, text: str) -> None:
    try:
        os.write(pipe, text.encode())
    except BrokenPipeError:
        return  # the one who asked has gone; the state file says the same
    finally:
        os.close(pipe)


if __name__ == "__main__":
    sys.exit(main())

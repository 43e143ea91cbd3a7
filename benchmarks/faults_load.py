"""What clients see when they ask for four times what a server can do, and when it is told to end.

Goodput is compared with a capacity that the same client measured just before, closed loop, on the same machine. The
client is a process of its own and takes from the same cores what it needs; that is told, not taken off. `model waited`
is the share of the overload in which the model's thread could have run and had no core: what others took, the client
and the refusing included.
"""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "serve"))

from fault_world import MODEL, OWN_RAY, FaultWorld  # noqa: E402
from server_process import free_port, server_process  # noqa: E402
from tiny_models import ROW, write_bundle  # noqa: E402

from fairlead.records.release import Release  # noqa: E402
from fairlead.spec.serve import RequestLog, Serve  # noqa: E402

Row = dict[str, Any]
Say = Callable[[str], None]

CALL_MS = 12.0
_CALM_SECONDS = 5.0
_AFTER_SECONDS = 10.0
_REFUSED = ("429", "503")


def overload(base: Path, address: str, port: int, say: Say, seconds: float, call_ms: float = CALL_MS) -> Row:
    """Four times what a model with calls of `call_ms` can do, on a replica of its own. Below a millisecond they run in
    the event loop itself, so that refusing takes its time from answering."""
    spec = Serve(
        port=port,
        replicas=1,
        max_batch=1,
        max_queue=16,
        deadline_ms=1000,
        fallback="none",
        sticky="header:x-fairlead-key",
        log=RequestLog(rotate_seconds=1),
    )
    world = FaultWorld(base, address, spec, trips=round(call_ms / 1000 / loop_seconds(base)))
    try:
        url = f"{world.client.url}/v2/models/{MODEL}/predict"
        send(url, (50, 2))
        capacity = max(phase["good_per_second"] for phase in send(url, *[(0, _CALM_SECONDS)] * 2)["phases"])
        say(f"capacity {capacity:.0f} requests per second")
        calm = send(url, (0.5 * capacity, _CALM_SECONDS))["phases"][0]
        used = Cores(world.replicas()[0])
        watching = threading.Timer(seconds, used.stop)
        watching.start()
        found = send(url, (4 * capacity, seconds), (0.5 * capacity, _AFTER_SECONDS))
        watching.join()
        again = send(url, (0, _CALM_SECONDS))["phases"][0]["good_per_second"]
    finally:
        world.close()
    line = {"what": f"4 x overload for {seconds:g} s, calls of {call_ms:g} ms"}
    line |= _overload_line(found, seconds, max(capacity, again), calm, used)
    say("  ".join(f"{key} {value}" for key, value in line.items()))
    return line


def _overload_line(found: Row, seconds: float, capacity: float, calm: Row, used: "Cores") -> Row:
    under, after = found["phases"]
    goodput = under["good_per_second"] / capacity
    recovered = recovered_after(after["trace"], calm["p99_ms"])
    statuses = under["statuses"]
    both = {name: statuses.get(name, 0) + after["statuses"].get(name, 0) for name in {*statuses, *after["statuses"]}}
    return {
        "requests": under["requests"] + after["requests"],
        # Refusals with 429 or 503 are the point here.
        "failed": sum(count for name, count in both.items() if name not in ("200", *_REFUSED)),
        "late": under["late"] + after["late"],
        "p50 ms": round(under["p50_ms"], 1),
        "p99 ms": round(under["p99_ms"], 1),
        "max ms": round(under["max_ms"], 1),
        "answers": statuses,
        "retry-after": ", ".join(found["retry_after"]),
        "capacity / s": round(capacity),
        "offered / capacity": round(under["requests"] / seconds / capacity, 1),
        "goodput / capacity": round(goodput, 3),
        "p99 ms before": round(calm["p99_ms"], 1),
        "recovered after s": recovered,
        "cores: model, rest of the replica, proxy, client": ", ".join(
            f"{cores:.2f}" for cores in (used.busiest, used.others, used.proxies, under["client_cores"])
        ),
        "goodput >= 0.8 and recovered in 5 s": "met" if goodput >= 0.8 and recovered <= 5 else "not met",
        "model waited": f"{used.waited:.0%}",
    }


def recovered_after(trace: list[tuple[float, int, float]], calm_p99_ms: float) -> float:
    """Seconds from the end of the overload until there is a second in which no more than one request in a hundred (or
    one) is refused, or takes longer than twice what one in a hundred took before, and 50 ms. Infinite when there is
    none."""
    limit = 2 * calm_p99_ms + 50
    for tenth in range(round(10 * (_AFTER_SECONDS - 1)) + 1):
        start = tenth / 10
        window = [status != 200 or ms > limit for due, status, ms in trace if start <= due < start + 1]
        if sum(window) <= max(1, len(window) // 100):
            return start
    return float("inf")


def send(url: str, *phases: tuple[float, float]) -> Row:
    """What `open_loop.py` saw."""
    command = [sys.executable, str(HERE / "open_loop.py"), "--url", url, "--body", json.dumps({"instances": [ROW]})]
    for rate, seconds in phases:
        command += ["--phase", f"{rate:g}:{seconds:g}"]
    found: Row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


class Cores:
    """What a replica and the proxies use of the cores, from now until `stop`."""

    def __init__(self, replica: int) -> None:
        self._replica, self._proxies = replica, _proxies()
        self._before = self._look()
        self.busiest = self.others = self.proxies = self.waited = 0.0

    def _look(self) -> tuple[float, dict[int, tuple[float, float]], float]:
        proxies = sum(used for process in self._proxies for used, _ in _threads(process).values())
        return time.monotonic(), _threads(self._replica), proxies

    def stop(self) -> None:
        """Look again."""
        (begun, threads, proxies), (ended, threads_now, proxies_now) = self._before, self._look()
        seconds = ended - begun
        spent = [
            ((used - threads.get(number, (0.0, 0.0))[0]) / seconds, (queued - threads.get(number, (0.0, 0.0))[1]))
            for number, (used, queued) in threads_now.items()
        ]
        self.busiest, queued = max(spent)
        self.others = sum(used for used, _ in spent) - self.busiest
        self.waited = queued / seconds
        self.proxies = (proxies_now - proxies) / seconds


def _threads(process: int) -> dict[int, tuple[float, float]]:
    """Seconds on a core, and seconds in the queue for one, of each thread of a process."""
    found = {}
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            used, queued, _ = (task / "schedstat").read_text().split()
        except OSError:  # it ended
            continue
        found[int(task.name)] = (int(used) / 1e9, int(queued) / 1e9)
    return found


def _proxies() -> list[int]:
    """The HAProxy processes of the Ray that was started from here."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and (entry / "comm").read_text().strip() == "haproxy"
                and OWN_RAY.encode() in (entry / "environ").read_bytes()
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def loop_seconds(base: Path) -> float:
    """How long one turn of the slow graph's loop takes here."""
    from fairlead.serve.model import load_model
    from fairlead.store.opening import open_store

    store, turns = open_store("calibration", base), 20_000
    arm = write_bundle(store, base / "calibration-drafts", version=1, fault="hangs", trips=turns)
    return load_model(store, arm, base / "calibration-cache").measure_seconds() / turns


def told_to_end(say: Say) -> Row:
    """SIGTERM to `fairlead serve` while 20 requests of about two seconds are in flight, five times."""
    from fairlead.serve.client import ServingClient
    from fairlead.store.opening import open_store

    sent = answered = 0
    with tempfile.TemporaryDirectory() as folder:
        turn = loop_seconds(Path(folder))
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            store = open_store("store", base)
            arm = write_bundle(store, base / "d", version=1, fault="hangs", trips=round(2 / turn))
            spec = Serve(port=free_port(), deadline_ms=9000, fallback="none", log=RequestLog(rotate_seconds=1))
            answers: list[int] = []
            with server_process(spec, Release(MODEL, 1, arm), base) as (client, process):

                def ask(url: str, answers: list[int]) -> None:
                    with ServingClient(url, model=MODEL, timeout_seconds=20) as asking:
                        asking.infer([ROW])
                        answers.append(1)

                threads = [threading.Thread(target=ask, args=(client.url, answers)) for _ in range(20)]
                for thread in threads:
                    thread.start()
                time.sleep(0.5)
                process.send_signal(signal.SIGTERM)
                for thread in threads:
                    thread.join()
            sent, answered = sent + 20, answered + len(answers)
    line = {"what": "SIGTERM, 20 in flight, 5 times", "requests": sent, "failed": sent - answered, "late": answered}
    say("  ".join(f"{key} {value}" for key, value in line.items()))
    return line

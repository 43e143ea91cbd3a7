"""A pod that leaves: HAProxy is asked to end, halfway, and nobody else is."""

import signal
from pathlib import Path

from fairlead.serve.leaving import leave


def test_haproxy_is_asked_to_end_halfway(tmp_path: Path) -> None:
    for number, name in ((1, "tini"), (17, "haproxy"), (18, "python"), (19, "haproxy")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "comm").write_text(f"{name}\n")
    (tmp_path / "20").mkdir()  # has ended
    (tmp_path / "meminfo").write_text("")
    story: list[object] = []

    def kill(process: int, number: int) -> None:
        story.append((process, number))
        if process == 19:
            raise ProcessLookupError

    assert leave(10.0, processes=tmp_path, sleep=story.append, kill=kill) == [17]
    assert (story[0], story[-1]) == (5.0, 5.0)
    assert set(story[1:-1]) == {(17, signal.SIGUSR1), (19, signal.SIGUSR1)}

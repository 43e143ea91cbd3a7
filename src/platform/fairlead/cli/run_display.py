"""What a person sees of a run: a line per step. On a terminal the running step's line is alive."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from fairlead.cli.local_pipeline import Event

_WIDTH = 9
_REFRESH_PER_SECOND = 8


class RunDisplay(Protocol):
    """Takes the events of a run, and shows them until it is left."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def taken(self, step: str, run: str) -> None:
        """The result of `step` is that of an earlier run."""

    def show(self, event: "Event") -> None:
        """One event."""

    def failed(self, step: str) -> None:
        """The step ended without a result."""


class PlainDisplay:
    """For pipes and files: one line per step, when it has ended."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._started: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held back."""

    def taken(self, step: str, run: str) -> None:
        """As RunDisplay says."""
        self._line(f"  {step:<{_WIDTH}}          as in run {run}")

    def show(self, event: "Event") -> None:
        """As RunDisplay says."""
        if event.kind == "started":
            self._started[event.step] = time.monotonic()
        elif event.kind == "finished":
            self._line(f"  {event.step:<{_WIDTH}} {self._seconds(event.step)}  {event.message}")

    def failed(self, step: str) -> None:
        """As RunDisplay says."""
        self._line(f"  {step:<{_WIDTH}} {self._seconds(step)}  FAILED")

    def _seconds(self, step: str) -> str:
        now = time.monotonic()
        return f"{now - self._started.get(step, now):6.1f} s"

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


class LiveDisplay:
    """For a terminal: ended steps above, the running one below with spinner, time, bar and its latest message."""

    def __init__(self, console: "Console") -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._console = console
        self._spinner = Spinner("dots")
        self._live = Live(console=console, refresh_per_second=_REFRESH_PER_SECOND, transient=True)
        self._started = time.monotonic()
        self._step = ""
        self._message = ""
        self._share: float | None = None

    def __enter__(self) -> Self:
        self._live.start()
        self._live.update(_Running(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._step = ""
        self._live.stop()

    def taken(self, step: str, run: str) -> None:
        """As RunDisplay says."""
        self._line("·", "dim", step, "        ", f"as in run {run}")

    def show(self, event: "Event") -> None:
        """As RunDisplay says."""
        if event.kind == "started":
            self._step, self._message, self._share = event.step, "", None
            self._started = time.monotonic()
        elif event.kind == "message" and event.step == self._step:
            self._message, self._share = event.message, event.share
        elif event.kind == "finished":
            self._line("✓", "green", event.step, self._seconds(), event.message)

    def failed(self, step: str) -> None:
        """As RunDisplay says."""
        self._line("✗", "bold red", step, self._seconds(), "failed")

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._started:6.1f} s"

    def _line(self, mark: str, style: str, step: str, seconds: str, text: str) -> None:
        from rich.text import Text

        line = Text.assemble((mark, style), " ", (f"{step:<{_WIDTH}}", "bold"), " ", (seconds, "dim"), "  ", text)
        self._console.print(line, soft_wrap=True)

    def render(self) -> "RenderableType":
        """The running step's line."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if not self._step:
            return Text("")
        row = Table.grid(padding=(0, 1))
        cells: list[RenderableType] = [
            self._spinner,
            Text(f"{self._step:<{_WIDTH}}", "bold"),
            Text(self._seconds(), "dim"),
        ]
        if self._share is not None:
            cells.append(ProgressBar(total=1.0, completed=min(1.0, max(0.0, self._share)), width=16))
        cells.append(Text(self._message, overflow="ellipsis", no_wrap=True))
        row.add_row(*cells)
        return row


class _Running:
    """Draws itself anew at each refresh, so that time and spinner go on between events."""

    def __init__(self, display: LiveDisplay) -> None:
        self._display = display

    def __rich__(self) -> "RenderableType":
        return self._display.render()


def display_for(console: "Console") -> RunDisplay:
    """The display that fits where standard error goes."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)

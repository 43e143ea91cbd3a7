"""S3 that refuses, fails and breaks off, in front of the files of a source."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fairlead.data.locations import s3_filesystem
from fairlead.testing.faulty_s3 import Fault, FaultyS3
from hostile.cases import Case, Refused, Used
from hostile.changing_cases import two_files
from hostile.running import Seen, look

FAMILY = "S3 faults"
_LIST, _READ = "list-type", "/b."


@dataclass(frozen=True)
class S3Case:
    """What goes wrong with a source of two files of `kind`; with `code`, or outlived ("")."""

    name: str
    kind: str
    fault: Fault
    code: str

    def outcome(self, uri: str) -> Refused | Used:
        """What must come of it when the source is `uri`."""
        place = f"{uri}/b.{self.kind}" if self.fault.path == _READ else uri
        return Refused(self.code, (place,)) if self.code else Used()

    def case(self, uri: str) -> Case:
        """The same as a case; the files are written by `put`."""
        return Case(FAMILY, f"{self.name}, {self.kind}", uri, lambda folder: None, self.outcome(uri))

    def put(self, folder: Path, uri: str) -> None:
        """Write the files and copy them to `uri`."""
        folder.mkdir()
        two_files(self.kind)(folder)
        filesystem = s3_filesystem()
        for path in sorted(folder.iterdir()):
            with filesystem.open_output_stream(f"{uri.removeprefix('s3://')}/{path.name}") as sink:
                sink.write(path.read_bytes())

    def run(self, proxy: FaultyS3, uri: str, folder: Path) -> Seen:
        """Read them by way of `proxy`, to which the environment points."""
        proxy.faults[:] = [replace(self.fault, seen=0)]
        return look(self.case(uri), folder)


def cases() -> Iterator[S3Case]:
    """Each fault for each format."""
    faults = [
        ("nothing", Fault(500, times=0), ""),
        ("listing refused (403)", Fault(403, _LIST), "FL-201"),
        ("listing fails (500)", Fault(500, _LIST), "FL-201"),
        ("listing fails once", Fault(500, _LIST, times=1), ""),
        ("listing slowed down (503)", Fault(503, _LIST), "FL-201"),
        ("listing slowed down once", Fault(503, _LIST, times=1), ""),
        ("listing reset", Fault("reset", _LIST), "FL-201"),
        ("reading refused (403)", Fault(403, _READ), "FL-201"),
        ("reading fails (500)", Fault(500, _READ), "FL-202"),
        ("reading fails once", Fault(500, _READ, times=1), ""),
        ("reading slowed down (503)", Fault(503, _READ), "FL-202"),
        ("reading slowed down once", Fault(503, _READ, times=1), ""),
        ("body reset midway", Fault("reset", _READ, ("GET",)), "FL-202"),
        ("body reset midway once", Fault("reset", _READ, ("GET",), times=1), ""),
        ("body cut midway", Fault("cut", _READ, ("GET",)), "FL-202"),
        ("body cut midway once", Fault("cut", _READ, ("GET",), times=1), ""),
        ("gone after the listing (404)", Fault(404, _READ), "FL-201"),
    ]
    for kind in ("csv", "jsonl", "parquet"):
        yield from (S3Case(name, kind, fault, code) for name, fault, code in faults)

"""Every error that Fairlead raises on purpose, in one tree.

    FairleadError                      exit code
    ├── SpecError                FL-1xx    2      the project file, the command line
    ├── DataError                FL-2xx    3      sources, schema, splits, leaks, prepared data
    ├── TrainError               FL-3xx    4      training, checkpoints
    ├── EvaluationError          FL-4xx    4      metrics, gates
    ├── IntegrityError           FL-5xx    5      bundles, registry, digests
    ├── ServeError               FL-6xx    6      the server's own start (requests get 4xx instead)
    ├── RolloutError             FL-7xx    7      rollouts and traffic
    └── EnvironmentProblem       FL-8xx    8      Ray, ports, disk, network, missing extras

Each class is one code; its docstring is what ``fairlead explain CODE`` prints. An instance says what went wrong, where
(file:line:column, or file, row and column), why, and what to do. Verdicts are no errors: a run that ends in a verdict
other than PASS exits with 10 (FAIL) or 11 (NOT_ENOUGH_EVIDENCE).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

EXIT_OK = 0
EXIT_BUG = 1
EXIT_VERDICT_FAIL = 10
EXIT_NOT_ENOUGH_EVIDENCE = 11
MAX_PROBLEMS_SHOWN = 50


class FairleadError(Exception):
    """The root of all errors that Fairlead raises on purpose."""

    code: ClassVar[str] = "FL-000"
    exit_code: ClassVar[int] = EXIT_BUG

    def __init__(self, what: str, *, where: str | None = None, why: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.why, self.fix = what, where, why, fix

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.what}"]
        for label, text in (("where", self.where), ("why", self.why), ("fix", self.fix)):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process borders (Ray, multiprocessing); exceptions with keyword arguments do not by default.
        return _rebuild, (type(self), self.what, self.where, self.why, self.fix)

    def as_dict(self) -> dict[str, Any]:
        """What ``-o json`` prints."""
        return {"code": self.code, "what": self.what, "where": self.where, "why": self.why, "fix": self.fix}


def _rebuild(cls: type[FairleadError], what: str, where: str | None, why: str | None, fix: str | None) -> FairleadError:
    return cls(what, where=where, why=why, fix=fix)


def _rebuild_spec(
    cls: "type[SpecError]",
    what: str,
    where: str | None,
    why: str | None,
    fix: str | None,
    problems: tuple[Mapping[str, str], ...],
) -> "SpecError":
    return cls(what, where=where, why=why, fix=fix, problems=problems)


# --- FL-1xx ----------------------------------------------------------------------------------------------------------
class SpecError(FairleadError):
    """The project file does not describe a project: an unknown key, a wrong type, a value out of range, or two values
    that contradict each other. All problems are listed at once, each with file:line:column and the nearest valid key.
    See ``fairlead schema`` for the whole format and ``fairlead explain FIELD`` for one field."""

    code = "FL-100"
    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        why: str | None = None,
        fix: str | None = None,
        problems: tuple[Mapping[str, str], ...] = (),
    ) -> None:
        super().__init__(what, where=where, why=why, fix=fix)
        # Each with place, path, message and suggestion; `where` is the place of the first.
        self.problems = problems

    def __str__(self) -> str:
        if not self.problems:
            return super().__str__()
        lines = [f"{self.code}: {self.what}"]
        for problem in self.problems[:MAX_PROBLEMS_SHOWN]:
            path = f"{problem['path']}: " if problem["path"] else ""
            suggestion = f"; {problem['suggestion']}" if problem["suggestion"] else ""
            lines.append(f"  {problem['place']}  {path}{problem['message']}{suggestion}")
        if len(self.problems) > MAX_PROBLEMS_SHOWN:
            lines.append(f"  and {len(self.problems) - MAX_PROBLEMS_SHOWN} more")
        return "\n".join([*lines, f"  fix: {self.fix}"] if self.fix else lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_spec, (type(self), self.what, self.where, self.why, self.fix, self.problems)

    def as_dict(self) -> dict[str, Any]:
        """What ``-o json`` prints, with the single problems."""
        return {**super().as_dict(), "problems": [dict(problem) for problem in self.problems]}


class UsageError(SpecError):
    """The command line asks for something that the command cannot do. ``fairlead COMMAND --help`` shows an example."""

    code = "FL-101"


class SpecNotFound(SpecError):
    """There is no project file where the command looked. ``fairlead init`` writes one from a data file; ``-f FILE``
    names another place."""

    code = "FL-102"


# --- FL-2xx ----------------------------------------------------------------------------------------------------------
class DataError(FairleadError):
    """The data cannot be used as the project file describes it."""

    code = "FL-200"
    exit_code = 3


class SourceNotFound(DataError):
    """``data.source`` matches no file, or a file is gone or may not be read."""

    code = "FL-201"


class SourceUnreadable(DataError):
    """A source file is damaged, is not what its name says, or changed while it was read: a truncated Parquet file, a
    wrong delimiter (``data.delimiter``), an encoding other than UTF-8, a quote that does not close, columns that share
    a name. The file, and the row or row group where reading stopped, are named."""

    code = "FL-202"


class EmptyData(DataError):
    """The source, or what is left of it after filtering, has no rows."""

    code = "FL-203"


class SchemaMismatch(DataError):
    """Columns are missing, or have a type other than the schema's, in a way that no single row is to blame for."""

    code = "FL-204"


class TooManyRejected(DataError):
    """More rows break the schema than ``data.validate.max_rejected`` allows. The quarantine file lists each with its
    file, row, column and reason. Nothing after this step ran."""

    code = "FL-205"


class LabelProblem(DataError):
    """The label column is unknown, has no values, or only one class."""

    code = "FL-206"


class LeakFound(DataError):
    """A feature predicts the label suspiciously well by itself, as columns do that are only known after the event.
    Drop it from ``features``, or, when it is known at prediction time, allow it by name in ``data.leaks.allow``."""

    code = "FL-207"


class SplitTooSmall(DataError):
    """A split has too few rows, or too few of a class, to be worth training or judging on."""

    code = "FL-208"


class PreparedDataDamaged(DataError):
    """A prepared data set does not match its manifest: a file is missing or has another digest."""

    code = "FL-209"


class TransformError(DataError):
    """A value cannot be transformed: its column is missing or has a type that the fitted transform does not take."""

    code = "FL-210"


class AnomaliesFound(DataError):
    """The data as a whole are not as the schema or the accepted baseline says (a mean, missing values, a unit, the
    number of rows, their age), and ``data.validate.fail_on`` says that this fails the step. Nothing after it ran."""

    code = "FL-211"


# --- FL-3xx ----------------------------------------------------------------------------------------------------------
class TrainError(FairleadError):
    """Training could not start or finish."""

    code = "FL-300"
    exit_code = 4


class PreflightFailed(TrainError):
    """A check before the expensive part failed: the model cannot overfit one batch, shapes do not fit, the loss is not
    finite, or the disk is too small for the checkpoints."""

    code = "FL-301"


class LossNotFinite(TrainError):
    """The loss became NaN or infinite. The step and the rank are named; the last checkpoint is from before."""

    code = "FL-302"


class CheckpointDamaged(TrainError):
    """A checkpoint's file does not match its manifest. It is refused by name; the next older whole one is used. When
    none is whole, training starts over only if told so."""

    code = "FL-303"


class ModelBuilderError(TrainError):
    """The model builder named in ``train.model`` cannot be imported or built."""

    code = "FL-304"


class ExportMismatch(TrainError):
    """The exported ONNX graph does not give the numbers that PyTorch gives, within the stated tolerance."""

    code = "FL-305"


class RunConfigurationChanged(TrainError):
    """The run folder holds checkpoints of another configuration or of other data. They are neither continued nor
    deleted: name another run folder, or remove this one when its checkpoints are no longer wanted."""

    code = "FL-306"


# --- FL-4xx ----------------------------------------------------------------------------------------------------------
class EvaluationError(FairleadError):
    """A model could not be judged."""

    code = "FL-400"
    exit_code = 4


class GatesFailed(EvaluationError):
    """A gate of ``evaluate.gates`` failed, so the version was not registered. The evaluation report says for each gate
    what was observed, the bound and why. Exit code 10: a verdict, not a fault."""

    code = "FL-401"
    exit_code = EXIT_VERDICT_FAIL


# --- FL-5xx ----------------------------------------------------------------------------------------------------------
class IntegrityError(FairleadError):
    """Something stored is not what its digest says, or is missing."""

    code = "FL-500"
    exit_code = 5


class BundleDamaged(IntegrityError):
    """A file of a bundle has another digest than its manifest says, is missing, or is not listed. It is not loaded."""

    code = "FL-501"


class RegistryConflict(IntegrityError):
    """Somebody else changed the registry meanwhile, more often than the retries cover. Nothing was written."""

    code = "FL-502"


class VersionNotFound(IntegrityError):
    """The registry has no such model, version or alias."""

    code = "FL-503"


class HistoryBroken(IntegrityError):
    """The registry's hash-chained history was edited: an entry does not follow from the one before."""

    code = "FL-504"


class StoreError(IntegrityError):
    """The store cannot be read or written: no such bucket, no permission, wrong credentials, no answer."""

    code = "FL-505"


class KeyMissing(StoreError):
    """The store has nothing under this key."""

    code = "FL-506"


class KeyExists(StoreError):
    """The store has something under this key already, and it was to be created, not replaced. Nothing was written."""

    code = "FL-507"


class VersionConflict(StoreError):
    """Somebody else changed or removed the object since it was read. Nothing was written."""

    code = "FL-508"


class KeyRefused(StoreError):
    """A key that could mean another place than it says (``..``, an absolute path, a backslash, a percent sign, a hidden
    name, a link that leads out of the store) is not used."""

    code = "FL-509"


# --- FL-6xx ----------------------------------------------------------------------------------------------------------
class ServeError(FairleadError):
    """The server could not start, or a server cannot be reached."""

    code = "FL-600"
    exit_code = 6


class PortInUse(ServeError):
    """Another process listens on the port."""

    code = "FL-601"


class ServerUnreachable(ServeError):
    """No server answers at the address."""

    code = "FL-602"


class PredictionFailed(ServeError):
    """A model's graph could not be loaded or run, or gave something other than one finite number (or row of numbers)
    per row of input."""

    code = "FL-610"


# --- FL-7xx ----------------------------------------------------------------------------------------------------------
class RolloutError(FairleadError):
    """A rollout cannot do what was asked in the state that it is in."""

    code = "FL-700"
    exit_code = 7


class StaleGeneration(RolloutError):
    """A controller acted on an old generation of a rollout: a newer controller is in charge. Nothing was changed."""

    code = "FL-701"


class RolloutNotFound(RolloutError):
    """There is no such rollout."""

    code = "FL-702"


# --- FL-8xx ----------------------------------------------------------------------------------------------------------
class EnvironmentProblem(FairleadError):
    """The machine lacks something. ``fairlead doctor`` checks all of it."""

    code = "FL-800"
    exit_code = 8


class RayUnavailable(EnvironmentProblem):
    """Ray cannot be started or reached."""

    code = "FL-801"


class NotEnoughDisk(EnvironmentProblem):
    """The disk is too full for what is about to be written."""

    code = "FL-802"


class ExtraMissing(EnvironmentProblem):
    """An optional part of Fairlead is not installed. The message names the extra."""

    code = "FL-803"


class StepDied(EnvironmentProblem):
    """A step of the pipeline ended without saying why: it was killed, ran out of memory, or its Python could not start.
    The full log has what it printed. The same command again takes up what was finished."""

    code = "FL-804"


class ClusterUnreachable(EnvironmentProblem):
    """No Kubernetes answers: there is no kubeconfig, no such context in it, or nothing at its address."""

    code = "FL-805"


class ClusterRefused(EnvironmentProblem):
    """Kubernetes answers and says no: the credentials are not accepted, the account may not do this, or a policy or
    the object's own schema forbids it. Nothing was changed."""

    code = "FL-806"


class ClusterIncomplete(EnvironmentProblem):
    """The cluster lacks something that this needs: a CRD, an operator that runs, a namespace, a Secret."""

    code = "FL-807"


class PodsCannotRun(EnvironmentProblem):
    """Pods wait for something that does not come: no node has room, the image cannot be pulled, a quota is used up, or
    a policy keeps them out. What was created for them has been deleted again."""

    code = "FL-808"


class ClusterConflict(EnvironmentProblem):
    """An object of this name exists in the cluster, and is somebody else's or something else. It was left alone."""

    code = "FL-809"


def all_errors() -> list[type[FairleadError]]:
    """Every error class, by code."""
    found: list[type[FairleadError]] = []
    todo: list[type[FairleadError]] = [FairleadError]
    while todo:
        cls = todo.pop()
        found.append(cls)
        todo.extend(cls.__subclasses__())
    return sorted(found, key=lambda cls: cls.code)

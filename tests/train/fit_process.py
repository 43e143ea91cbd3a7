"""A fit in a process of its own, to be killed: ``python fit_process.py REQUEST.json`` prints one JSON line."""

import json
import sys
from pathlib import Path

from fairlead.errors import FairleadError
from fairlead.spec.train import Train
from fairlead.train.fit import fit
from fairlead.train.request import FitRequest


def main() -> None:
    """Fit and print what the test wants to know."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    request = FitRequest(
        Train.model_validate(asked["train"]),
        Path(asked["data"]),
        "binary",
        2,
        Path(asked["run"]),
        Path(asked["project"]),
        asked["address"],
    )
    try:
        result = fit(request, lambda _: None)
    except FairleadError as error:
        print(json.dumps({"error": type(error).__name__, **error.as_dict()}))
        return
    facts = {"weights_sha256": result.weights_sha256, "resumed_from_step": result.resumed_from_step}
    history = [{name: value for name, value in epoch.items() if "second" not in name} for epoch in result.history]
    print(json.dumps(facts | {"steps": result.steps, "workers": result.workers, "history": history}))


if __name__ == "__main__":
    main()

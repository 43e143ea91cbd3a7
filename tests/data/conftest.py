"""What tests of the data stage share: real flights, made by the example's own script."""

import importlib.util
from pathlib import Path

import pytest

_MAKE_DATA = Path(__file__).parents[2] / "examples" / "flights" / "make_data.py"


@pytest.fixture(scope="session")
def flights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with the flights of January to April as monthly Parquet files below data/."""
    spec = importlib.util.spec_from_file_location("flights_make_data", _MAKE_DATA)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("flights")
    module.write_months(folder / "data", range(1, 5))
    return folder

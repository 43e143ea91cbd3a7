"""Networks and builders."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fairlead.errors import ModelBuilderError
from fairlead.features.transform import TensorSpec
from fairlead.train.models import build_model, load_builder

NUMBERS = TensorSpec("numeric", "float32", (3,))
CATEGORIES = TensorSpec("categorical", "int64", (2,), cardinalities=(5, 100))
WORDS = TensorSpec("text", "int64", (5,), ("a", "a", "a", "b", "b"), (9, 9, 9, 4, 4))
PICTURE = TensorSpec("image", "float32", (1, 8, 8))

HERE = Path(__file__).parent


def built(
    model: str, *tensors: TensorSpec, task: str = "binary", classes: int = 2, project: Path = HERE, **options: Any
):
    return build_model(model, tensors, task, classes, options, project)


@pytest.mark.parametrize(("task", "classes", "shape"), [("binary", 2, (8, 4)), ("multiclass", 3, (8, 4, 3))])
def test_tabular_gives_one_answer_per_member(task: str, classes: int, shape: tuple[int, ...]) -> None:
    network = built("tabular", NUMBERS, CATEGORIES, task=task, classes=classes)
    numeric, categorical = torch.randn(4, 3), torch.tensor([[0, 0], [4, 99], [1, 2], [3, 50]])
    assert network(numeric=numeric, categorical=categorical).shape == shape


def test_tabular_takes_numbers_alone_and_categories_alone() -> None:
    assert built("tabular", NUMBERS, members=1)(numeric=torch.randn(4, 3)).shape == (1, 4)
    assert built("tabular", CATEGORIES, members=3)(categorical=torch.zeros(4, 2, dtype=torch.long)).shape == (3, 4)


def test_tabular_takes_the_mean_of_the_words_of_each_text() -> None:
    network = built("tabular", NUMBERS, WORDS).eval()
    numeric = torch.zeros(1, 3)
    words = [[1, 2, 0, 3, 0], [2, 1, 0, 3, 0], [1, 2, 1, 3, 0], [0, 0, 0, 0, 0]]
    first, turned, other, none = (network(numeric=numeric, text=torch.tensor([line])) for line in words)
    torch.testing.assert_close(first, turned)
    assert not torch.allclose(first, other)
    assert none.isfinite().all()


def test_a_row_gets_the_same_answer_whatever_rows_are_beside_it() -> None:
    for network, tensors in (
        (built("tabular", NUMBERS).eval(), {"numeric": torch.randn(6, 3)}),
        (built("image", PICTURE).eval(), {"image": torch.randn(6, 1, 8, 8)}),
    ):
        together = network(**tensors)
        alone = network(**{name: tensor[2:3] for name, tensor in tensors.items()})
        row = together[:, 2:3] if together.shape[0] != 6 else together[2:3]
        torch.testing.assert_close(alone, row, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(8, 8), (3, 5, 7), (1, 28, 28), (1, 2, 2)])
def test_image_takes_small_and_large_pictures(shape: tuple[int, ...]) -> None:
    network = built("image", TensorSpec("image", "float32", shape), task="multiclass", classes=10)
    assert network(image=torch.randn(4, *shape)).shape == (4, 10)


@pytest.mark.parametrize(
    ("model", "tensors", "options", "message"),
    [
        ("tabular", (NUMBERS,), {"layers": 3}, "no option layers"),
        ("tabular", (NUMBERS,), {"dropout": 1.5}, "dropout cannot be 1.5"),
        ("tabular", (NUMBERS,), {"hidden": 64}, "hidden cannot be 64"),
        ("tabular", (NUMBERS,), {"members": 0}, "members cannot be 0"),
        ("tabular", (NUMBERS,), {"members": True}, "members cannot be True"),
        ("tabular", (PICTURE,), {}, "takes numbers, categories and texts"),
        ("image", (NUMBERS,), {}, "takes one picture"),
        ("resnet", (NUMBERS,), {}, "no model 'resnet'"),
    ],
)
def test_options_and_tensors_that_do_not_fit_are_refused(
    model: str, tensors: tuple[TensorSpec, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelBuilderError, match=message):
        built(model, *tensors, **options)


def test_a_builder_of_the_project_is_found_with_the_modules_beside_it(tmp_path: Path) -> None:
    (tmp_path / "sizes_of_mine.py").write_text("WIDTH = 7\n")
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "mine.py").write_text(
        "from torch import nn\nfrom sizes_of_mine import WIDTH\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, n):\n        super().__init__()\n        self.layer = nn.Linear(n, 1)\n"
        "    def forward(self, numeric):\n        return self.layer(numeric)\n"
        "def build(tensors, task, num_classes, options):\n"
        "    net = Net(tensors[0].shape[0])\n    net.width = WIDTH + options['more']\n    return net\n"
    )
    network = built("nets.mine:build", NUMBERS, project=tmp_path, more=2)
    assert network.width == 9
    assert network(numeric=torch.randn(4, 3)).shape == (4, 1)


def test_two_projects_may_have_modules_of_the_same_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.py").write_text(f"def build(*_):\n    return {name!r}\n")
    found = [load_builder("model:build", tmp_path / name)() for name in ("one", "two")]  # type: ignore[call-arg]
    assert found == ["one", "two"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def other(): pass\n", "cannot be imported"),
        ("import nothing_like_this\n", "nothing_like_this"),
        ("build = 3\n", "is no function"),
        ("def build(tensors, task, num_classes, options):\n    return 'a string'\n", "returned str"),
        ("def build(tensors, task, num_classes, options):\n    return 1 / 0\n", "ZeroDivisionError"),
        (
            "from torch import nn\ndef build(tensors, task, num_classes, options):\n    return nn.Identity()\n",
            "nothing to learn",
        ),
    ],
)
def test_a_builder_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "model.py").write_text(source)
    with pytest.raises(ModelBuilderError, match=message) as caught:
        built("model:build", NUMBERS, project=tmp_path)
    assert "model:build" in str(caught.value)


def test_a_missing_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelBuilderError, match="cannot be imported"):
        load_builder("not_here:build", tmp_path)

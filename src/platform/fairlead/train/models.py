"""Networks: `tabular`, `image`, or what a builder of the user's own returns.

A network takes its tensors by name (`numeric` float32 [N, F], `categorical` int64 [N, C], `image` float32 [N, ...],
`text` int64 [N, T]) and returns one number per row and output: [N], [N, 1] or [N, C], or with a leading axis of K
members that are averaged when it answers and judged one by one while it learns. Binary outputs are logits; regression
works on the standardised label.
"""

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from fairlead.errors import ModelBuilderError

Options = Mapping[str, Any]

# Edges on the scale of standardised numbers. Steps of piecewise-linear encodings let small networks bend where the data
# does: Gorishniy, Rubachev, Babenko (2022), "On embeddings for numerical features in tabular deep learning".
_EDGES = (-2.5, -1.5, -1.0, -0.6, -0.3, 0.0, 0.3, 0.6, 1.0, 1.5, 2.5)


class TensorSpec(Protocol):
    """What a model needs to know of a tensor (`fairlead.features.transform.TensorSpec` is one)."""

    @property
    def name(self) -> str:
        """Of the network's input."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Where it comes from."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many codes each column of a categorical tensor has; empty for others."""


Builder = Callable[[tuple[Any, ...], str, int, Options], nn.Module]


def build_model(
    model: str,
    tensors: Sequence[TensorSpec],
    task: str,
    num_classes: int,
    options: Options,
    project_dir: Path,
) -> nn.Module:
    """The network that `train.model` names. Weights come from torch's generator: seed it first.

    Raises ModelBuilderError when the builder cannot be found, refuses its options, or returns no module."""
    builder = _BUILT_IN.get(model) or load_builder(model, project_dir)
    try:
        network = builder(tuple(tensors), task, num_classes, options)
    except ModelBuilderError:
        raise
    except Exception as error:  # a builder of the user's own may raise anything
        raise ModelBuilderError(
            f"the model builder {model} failed",
            where=f"train.model: {model}",
            why=f"{type(error).__name__}: {error}",
            fix="It is called with (tensors, task, num_classes, options) and returns a torch.nn.Module.",
        ) from error
    if not isinstance(network, nn.Module):
        raise ModelBuilderError(
            f"the model builder {model} returned {type(network).__name__}",
            where=f"train.model: {model}",
            fix="Return a torch.nn.Module.",
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ModelBuilderError(f"the network of {model} has nothing to learn", where=f"train.model: {model}")
    return network


def load_builder(reference: str, project_dir: Path) -> Builder:
    """The function `module:function`, with the module looked for in `project_dir` first, then among installed ones."""
    module_name, _, function = reference.partition(":")
    where = f"train.model: {reference}"
    if not function:
        raise ModelBuilderError(
            f"there is no model {reference!r}", where=where, fix=f"One of {', '.join(_BUILT_IN)}, or module:function."
        )
    file = builder_file(reference, project_dir)
    sys.path.insert(0, str(project_dir))
    try:
        if file is None:
            module = importlib.import_module(module_name)
        else:
            # Loaded from its file and not through sys.modules: two projects may both have a model.py.
            spec = importlib.util.spec_from_file_location(f"fairlead_project_{module_name.replace('.', '_')}", file)
            if spec is None or spec.loader is None:
                raise ImportError(f"{file} cannot be loaded")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        found = getattr(module, function)
    except Exception as error:  # importing the user's own file may raise anything
        raise ModelBuilderError(
            f"the model builder {reference} cannot be imported",
            where=where,
            why=f"{type(error).__name__}: {error}",
            fix=f"It is looked for in {project_dir}, then among the installed modules.",
        ) from error
    finally:
        sys.path.remove(str(project_dir))
    if not callable(found):
        raise ModelBuilderError(f"{reference} is no function", where=where)
    builder: Builder = found
    return builder


def builder_file(reference: str, project_dir: Path) -> Path | None:
    """The file in the project that holds a builder; None for a built-in model or an installed module."""
    module, _, function = reference.partition(":")
    parts = module.split(".")
    if not function or not all(part.isidentifier() for part in parts):
        return None
    file = project_dir.joinpath(*parts).with_suffix(".py")
    return file if file.is_file() else None


# --- tabular ---------------------------------------------------------------------------------------------------------
class MemberLinear(nn.Module):  # type: ignore[misc]
    """A linear layer for each of K members: [K, N, in] to [K, N, out]."""

    def __init__(self, members: int, inputs: int, outputs: int, gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, inputs, outputs) * (gain / inputs) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[K, N, in] to [K, N, out]."""
        return torch.baddbmm(self.bias, x, self.weight)


class Tabular(nn.Module):  # type: ignore[misc]
    """Numbers by piecewise-linear encoding, categories by embedding, texts by the mean of their words', then K small
    networks side by side in one graph.

    Members share the embeddings and differ in their weights; their mean answers. That costs little more than one
    network and takes away much of what retraining with another seed would change. A category's vector is now and then
    left out while training, and starts near zero, so that an index that training never saw means "an average one"."""

    def __init__(
        self,
        numbers: int,
        cardinalities: Sequence[int],
        outputs: int,
        options: Options,
        texts: Sequence[tuple[int, int]] = (),
    ) -> None:
        """`texts`: how many words of each text there are, and of how many indices."""
        super().__init__()
        members, hidden = options["members"], options["hidden"]
        widths = [min(options["embedding"], (cardinality + 1) // 2 + 1) for cardinality in cardinalities]
        self.embeddings = nn.ModuleList(nn.Embedding(c, w) for c, w in zip(cardinalities, widths, strict=True))
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, std=0.1)
        self.texts = tuple(length for length, _ in texts)
        self.words = nn.ModuleList(nn.Embedding(cardinality, 2 * options["embedding"]) for _, cardinality in texts)
        for embedding in self.words:
            nn.init.normal_(embedding.weight, std=0.1)
        edges = torch.tensor(_EDGES)
        self.register_buffer("starts", edges[:-1], persistent=False)
        self.register_buffer("spans", edges[1:] - edges[:-1], persistent=False)
        inputs = numbers * len(_EDGES) + sum(widths) + 2 * options["embedding"] * len(self.texts)
        sizes = [inputs, *hidden]
        self.layers = nn.ModuleList(MemberLinear(members, a, b, 2.0) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in hidden)
        self.head = MemberLinear(members, sizes[-1], outputs, 0.01)
        self.members, self.outputs = members, outputs
        self.dropout, self.embedding_dropout = options["dropout"], options["embedding_dropout"]

    def forward(
        self,
        numeric: torch.Tensor | None = None,
        categorical: torch.Tensor | None = None,
        text: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[K, N] for one output, else [K, N, C]."""
        parts: list[torch.Tensor] = []
        if numeric is not None:
            steps = ((numeric.unsqueeze(-1) - self.starts) / self.spans).clamp(0.0, 1.0)
            parts += [numeric, steps.flatten(1)]
        if categorical is not None:
            parts += [self._embed(index, categorical) for index in range(len(self.embeddings))]
        if text is not None:
            pairs = zip(self.words, text.split(self.texts, dim=1), strict=True)
            parts += [self._mean(embedding, words) for embedding, words in pairs]
        x = torch.cat(parts, dim=1).unsqueeze(0).expand(self.members, -1, -1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.dropout(F.relu(norm(layer(x))), self.dropout, self.training)
        x = self.head(x)
        return x.squeeze(-1) if self.outputs == 1 else x

    @staticmethod
    def _mean(embedding: nn.Module, words: torch.Tensor) -> torch.Tensor:
        """The mean vector of a text's words, 0 for a text without any: int64 [N, T] to [N, width]."""
        present = (words != 0).unsqueeze(-1)
        vectors: torch.Tensor = embedding(words) * present
        return vectors.sum(1) / present.sum(1).clamp(min=1)

    def _embed(self, index: int, categorical: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.embeddings[index](categorical[:, index])
        if self.training and self.embedding_dropout:
            kept = torch.rand(len(vectors), 1, device=vectors.device) >= self.embedding_dropout
            vectors = vectors * kept
        return vectors


def tabular(tensors: tuple[TensorSpec, ...], task: str, num_classes: int, options: Options) -> nn.Module:
    """The default for columns of numbers and categories."""
    chosen = _choose(
        "tabular",
        options,
        {"hidden": (64, 32), "members": 8, "embedding": 8, "dropout": 0.2, "embedding_dropout": 0.02},
    )
    by_name = {spec.name: spec for spec in tensors}
    if "image" in by_name or not by_name:
        raise ModelBuilderError(
            "the model tabular takes numbers, categories and texts",
            why=f"the features give the tensors {', '.join(by_name) or 'none'}",
            fix="Use train.model: image, or a builder of your own.",
        )
    texts = []
    if "text" in by_name:
        places = zip(by_name["text"].columns, by_name["text"].cardinalities, strict=True)
        texts = [(len(list(same)), size) for (_, size), same in itertools.groupby(places)]
    numbers = by_name["numeric"].shape[0] if "numeric" in by_name else 0
    cardinalities = by_name["categorical"].cardinalities if "categorical" in by_name else ()
    return Tabular(numbers, cardinalities, num_classes if task == "multiclass" else 1, chosen, texts)


# --- image -----------------------------------------------------------------------------------------------------------
class SmallCNN(nn.Module):  # type: ignore[misc]
    """Convolutions with group normalisation, then the mean and the largest value of each channel.

    Group and not batch normalisation: what a row gives must not depend on the rows beside it or on how many workers
    share them."""

    def __init__(self, channels_in: int, channels: Sequence[int], dropout: float, outputs: int, halvings: int) -> None:
        super().__init__()
        sizes = [channels_in, *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, kernel_size=3, padding=1) for a, b in itertools.pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(_divisor(size, 8), size) for size in channels)
        self.head = nn.Linear(2 * sizes[-1], outputs)
        self.dropout, self.halvings = dropout, halvings

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[N, channels, height, width] or [N, height, width] to [N, C]."""
        x = image.unsqueeze(1) if image.dim() == 3 else image
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = F.relu(norm(convolution(x)))
            if number < self.halvings:
                x = F.max_pool2d(x, 2)
        x = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        result: torch.Tensor = self.head(F.dropout(x, self.dropout, self.training))
        return result


def image(tensors: tuple[TensorSpec, ...], task: str, num_classes: int, options: Options) -> nn.Module:
    """The default for pictures."""
    chosen = _choose("image", options, {"channels": (32, 64, 64), "dropout": 0.1})
    by_name = {spec.name: spec for spec in tensors}
    if set(by_name) != {"image"}:
        raise ModelBuilderError(
            "the model image takes one picture per row and nothing else",
            why=f"the features give the tensors {', '.join(by_name) or 'none'}",
            fix="Use train.model: tabular, or a builder of your own.",
        )
    shape = by_name["image"].shape
    channels_in, smallest = (1, min(shape)) if len(shape) == 2 else (shape[0], min(shape[1:]))
    halvings = min(len(chosen["channels"]), max(smallest.bit_length() - 2, 0))  # leave at least 2 x 2
    return SmallCNN(
        channels_in, chosen["channels"], chosen["dropout"], num_classes if task == "multiclass" else 1, halvings
    )


def _choose(model: str, options: Options, defaults: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        raise ModelBuilderError(
            f"the model {model} has no option {', '.join(unknown)}",
            where="train.model_options",
            fix=f"It takes {', '.join(defaults)}.",
        )
    chosen = {**defaults, **options}
    for name, value in chosen.items():
        numbers = value if isinstance(value, tuple | list) else (value,)
        is_share = name.endswith("dropout")
        good = all(
            isinstance(number, int | float) and not isinstance(number, bool)
            and (0 <= number < 1 if is_share else isinstance(number, int) and number >= 1)
            for number in numbers
        )  # fmt: skip
        if not numbers or not good or isinstance(value, tuple | list) != isinstance(defaults[name], tuple):
            raise ModelBuilderError(
                f"{name} cannot be {value!r}",
                where=f"train.model_options.{name}",
                fix="A share from 0 to below 1." if is_share else f"Whole numbers above 0, such as {defaults[name]}.",
            )
    return chosen


def _divisor(number: int, at_most: int) -> int:
    return max(candidate for candidate in range(1, at_most + 1) if number % candidate == 0)


_BUILT_IN: dict[str, Builder] = {"tabular": tabular, "image": image}

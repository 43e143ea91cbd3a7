"""Re-export a version with a real fault: its graph reads beyond the end of a table for some carriers.

The result is a whole, correctly signed bundle: every digest fits, it loads, and it answers most requests. Only some
inputs make the runtime fail, as a vocabulary that has grown after the export does.

    python break_graph.py BUNDLE_FOLDER OUTPUT_FOLDER --carriers UA,B6
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

OUT_OF_RANGE = 1_000_000


def break_graph(model: onnx.ModelProto, column: int, cardinality: int, broken: list[int]) -> onnx.ModelProto:
    """Add to the output a value looked up by carrier; for the indices in `broken` the look-up is out of range."""
    rows = np.zeros(cardinality, dtype=np.int64)
    rows[broken] = OUT_OF_RANGE
    graph = model.graph
    output = graph.output[0].name
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == output:
                node.output[index] = "before_lookup"
    graph.initializer.extend(
        [
            numpy_helper.from_array(rows, "lookup_rows"),
            numpy_helper.from_array(np.zeros(1, dtype=np.float32), "lookup_values"),
            numpy_helper.from_array(np.asarray(column, dtype=np.int64), "lookup_column"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Gather", ["categorical", "lookup_column"], ["carrier_index"], axis=1),
            helper.make_node("Gather", ["lookup_rows", "carrier_index"], ["lookup_row"], axis=0),
            helper.make_node("Gather", ["lookup_values", "lookup_row"], ["looked_up"], axis=0),
            helper.make_node("Add", ["before_lookup", "looked_up"], [output]),
        ]
    )
    del graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """The command line."""
    from fairlead.bundle.bundle import Bundle, seal
    from fairlead.features.transform import Transform

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--carriers", default="UA,B6", help="carriers for which the graph fails")
    arguments = parser.parse_args()

    source = Bundle.load(arguments.bundle)
    shutil.copytree(arguments.bundle, arguments.output)
    transform = Transform.from_json((arguments.output / "transform.json").read_bytes())
    spec = next(tensor for tensor in transform.tensors if tensor.name == "categorical")
    column = spec.columns.index("carrier")
    rows = [{field.name: None for field in transform.fields} | {"carrier": c} for c in arguments.carriers.split(",")]
    broken = sorted({int(index) for index in transform.apply_rows(rows)["categorical"][:, column]})
    model = onnx.load(arguments.output / "model.onnx")
    onnx.save(break_graph(model, column, spec.cardinalities[column], broken), arguments.output / "model.onnx")
    card = (arguments.output / "card.md").read_text()
    lineage = dict(source.manifest.lineage) | {"reexported_from": source.manifest.digest}
    (arguments.output / "manifest.json").unlink()
    sealed = seal(arguments.output, source.manifest.model, lineage=lineage, calibration=source.calibration, card=card)
    print(json.dumps({"folder": str(arguments.output), "digest": sealed.digest}))


if __name__ == "__main__":
    main()

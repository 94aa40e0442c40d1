"""ONNX graphs: what the model computes, traced by torch, and the product with the items, written by hand."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping

import onnx
import torch
from torch import Tensor, nn

from models.ensemble import JoinedItems, Model
from models.items.table import Items

OPSET = 18

#: Rows of the example that is traced: neither 0 nor 1, which torch would take for constants.
_ROWS = 3


class Step(nn.Module):
    """state [B, S], item [B, E], features [B, F] → next [B, S]."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, state: Tensor, item: Tensor, features: Tensor) -> Tensor:
        return self.model.step(state, item, features)


class Head(nn.Module):
    """state [B, S] → user [B, D], and hazard [B, K] if the model has one."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, state: Tensor) -> tuple[Tensor, ...]:
        user = self.model.read(state)
        return (user,) if self.model.hazard is None else (user, self.model.hazards(state))


class Context(nn.Module):
    """features [B, Fc] → offset [B, D]."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        return self.model.context(features)


class LateItem(nn.Module):
    """codes [B, C], floats [B, F] → item [B, D], bias [B, 1]."""

    def __init__(self, items: Items | JoinedItems) -> None:
        super().__init__()
        self.items = items

    def forward(self, codes: Tensor, floats: Tensor) -> tuple[Tensor, Tensor]:
        return self.items.late(codes, floats)


def model_graphs(model: Model) -> dict[str, bytes]:
    """Return the graphs of the model by their file's name."""
    config, D = model.config, model.config.embedding_size
    state, item = model.state_size, model.item_size
    graphs = {
        "user_step.onnx": trace(
            Step(model), {"state": state, "item": item, "features": len(config.step_features)}, ["next"]
        ),
        "user_head.onnx": trace(
            Head(model), {"state": state}, ["user", "hazard"] if model.hazard else ["user"]
        ),
    }
    if config.context_features:
        widths = {"features": len(config.context_features)}
        graphs["context.onnx"] = trace(Context(model), widths, ["offset"])
    if model.reranker is not None:
        graphs["rerank.onnx"] = trace(model.reranker, {"user": D, "item": D, "score": 1}, ["rescored"])
    if model.items.encoder is not None:
        features = model.items.encoder.features
        widths = {"codes": features.codes, "floats": features.floats}
        graphs["item_encoder.onnx"] = trace(LateItem(model.items), widths, ["item", "bias"])
    return graphs


#: Inputs that are whole numbers.
_CODES = "codes"


def trace(module: nn.Module, widths: Mapping[str, int], outputs: list[str]) -> bytes:
    """Return the module as a graph; its inputs are [B, width] in the order of `widths`, B is free."""
    example = [
        torch.zeros(_ROWS, width, dtype=torch.int64 if name == _CODES else torch.float32)
        for name, width in widths.items()
    ]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of torchvision's absence
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter uses what torch deprecates
            program = torch.onnx.export(
                module.eval(),
                tuple(example),
                input_names=list(widths),
                output_names=outputs,
                dynamic_shapes={name: {0: torch.export.Dim("B")} for name in widths},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    serialized: bytes = _plain(program.model_proto).SerializeToString(deterministic=True)
    return serialized


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without the tracer's notes, which name files of this machine."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for part in [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]:
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def score_graph(embedding_size: int, block: int) -> bytes:
    """Return query [B, D] → scores [B, block]; the items [D, block] are handed in when it is opened."""
    items = onnx.TensorProto(
        name="items",
        data_type=onnx.TensorProto.FLOAT,
        dims=[embedding_size, block],
        data_location=onnx.TensorProto.EXTERNAL,
    )
    items.external_data.add(key="location", value="items")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["query", "items"], ["scores"])],
        "score",
        [onnx.helper.make_tensor_value_info("query", onnx.TensorProto.FLOAT, ["B", embedding_size])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["B", block])],
        [items],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=9, producer_name="ebbtide"
    )
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized

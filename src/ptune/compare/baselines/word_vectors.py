"""`bilstm` and `textcnn`: word vectors trained on the given texts, and a small network on top.

The vectors are gensim's skip-grams, trained on the training texts and on whatever unlabelled texts the comparison gives;
nothing is downloaded. Words in English, characters in Chinese. The networks are a BiLSTM with max pooling and Kim's TextCNN;
vectors learn with them. Sources: Mikolov et al. 2013; Kim 2014; the LSTM of Hochreiter & Schmidhuber 1997.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ptune.compare.baselines.loop import train_network
from ptune.compare.baselines.optional import need, package_version
from ptune.compare.contender import Contender, Fitted, Paradigm, Probabilities, Registry, Setup, rates
from ptune.data import Example

__all__ = ["BiLSTM", "TextCNN", "WordVectorNetwork", "units"]

_SIZE = 100
_HIDDEN = 64
_NUM_FILTERS = 50
_WIDTHS = (2, 3, 4)
_MAX_UNITS = 256
_PAD, _UNKNOWN = 0, 1
_WORD = re.compile(r"\w+|[^\w\s]")


def units(text: str, language: str) -> list[str]:
    """What has a vector: lower-case words and signs, or in Chinese characters."""
    if language == "zh":
        return [character for character in text if not character.isspace()][:_MAX_UNITS]
    return _WORD.findall(text.lower())[:_MAX_UNITS]


class BiLSTM(nn.Module):
    """Vectors [B, T, E] -> BiLSTM -> maximum over time -> classes.

    Args:
        size: E.
        num_classes: C.
    """

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size, _HIDDEN, batch_first=True, bidirectional=True)
        self.out = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * _HIDDEN, num_classes))

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """[B, C]; padding neither enters the LSTM nor the maximum."""
        packed = nn.utils.rnn.pack_padded_sequence(vectors, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=mask.shape[1])
        scores: Tensor = self.out(states.masked_fill(~mask[..., None], -1e9).amax(1))
        return scores


class TextCNN(nn.Module):
    """Vectors [B, T, E] -> filters of widths 2, 3 and 4 -> ReLU -> maximum over time -> classes.

    Args:
        size: E.
        num_classes: C.
    """

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__()
        self.filters = nn.ModuleList(nn.Conv1d(size, _NUM_FILTERS, width) for width in _WIDTHS)
        self.out = nn.Sequential(nn.Dropout(0.5), nn.Linear(_NUM_FILTERS * len(_WIDTHS), num_classes))

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """[B, C]; a window counts where its first unit is real (short texts are padded with zero vectors)."""
        shape = nn.functional.pad((vectors * mask[..., None]).transpose(1, 2), (0, max(_WIDTHS) - 1))
        pooled = []
        for filters in self.filters:
            found = torch.relu(filters(shape))[..., : mask.shape[1]]
            pooled.append(found.masked_fill(~mask[:, None], 0.0).amax(2))
        scores: Tensor = self.out(torch.cat(pooled, 1))
        return scores


class _Classifier(nn.Module):
    """Vectors of units, and a network."""

    def __init__(self, vectors: Tensor, network: nn.Module) -> None:
        super().__init__()
        self.vectors = nn.Embedding(len(vectors), vectors.shape[1], padding_idx=_PAD, _weight=vectors)
        self.network = network

    def forward(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """[B, C] of rows of unit numbers; an empty row is one unknown unit."""
        rows = [list(row) or [_UNKNOWN] for row in ids]
        length = max(map(len, rows))
        padded = torch.tensor([row + [_PAD] * (length - len(row)) for row in rows])
        mask = torch.tensor([[at < len(row) for at in range(length)] for row in rows])
        scores: Tensor = self.network(self.vectors(padded), mask)
        return scores


@dataclass(kw_only=True)
class _Network(Fitted):
    setup: Setup
    vocabulary: Mapping[str, int]
    model: _Classifier

    def ids(self, rows: Sequence[Example]) -> list[list[int]]:
        return [
            [self.vocabulary.get(unit, _UNKNOWN) for unit in units(text, self.setup.language)]
            for text in self.setup.texts(rows)
        ]

    @torch.no_grad()
    def predict(self, rows: Sequence[Example]) -> Probabilities:
        found = [torch.softmax(self.model([ids]), 1).double() for ids in self.ids(rows)]  # alone: padding moves last digits
        return torch.cat(found).numpy() if found else np.zeros((0, len(self.setup.labels)))


class WordVectorNetwork(Contender):
    """Word vectors and one network.

    Args:
        name, title: of the row.
        network: (size, number of classes) -> module.
    """

    paradigm: Paradigm = "word vectors"
    packages = (("gensim", "gensim.models.word2vec"), ("torch", "torch"))
    uses_unlabelled = True

    def __init__(self, name: str, title: str, network: type[BiLSTM] | type[TextCNN]) -> None:
        self.name, self.title, self._network = name, title, network

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Learning rates."""
        return rates(2e-3, count)

    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Trains vectors on all texts, then the network on the labelled rows."""
        word2vec = need("gensim.models.word2vec", "gensim")
        own = dict.fromkeys(setup.texts(train))
        texts = own | dict.fromkeys(setup.texts(setup.unlabelled))
        sentences = [units(text, setup.language) for text in texts]
        vectors = word2vec.Word2Vec(
            sentences, vector_size=_SIZE, window=5, min_count=1, sg=1, workers=1, seed=seed + 1, epochs=10, hashfxn=_stable_hash
        ).wv
        vocabulary = {unit: number for number, unit in enumerate(vectors.index_to_key, 2)}
        table = torch.zeros(len(vocabulary) + 2, _SIZE)
        table[2:] = torch.from_numpy(np.array(vectors.vectors, dtype=np.float32))
        table[_UNKNOWN] = table[2:].mean(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _Classifier(table, self._network(_SIZE, len(setup.labels)))
        size = sum(parameter.numel() for parameter in model.parameters())
        fitted = _Network(
            num_trained=size,
            num_bytes=4 * size + sum(len(unit.encode()) for unit in vocabulary),
            facts={"package": package_version("gensim"), "unlabelled_texts": len(texts) - len(own)},
            setup=setup,
            vocabulary=vocabulary,
            model=model,
        )
        ids, classes = fitted.ids(train), torch.from_numpy(setup.classes(train))

        def loss_of(rows: Sequence[int]) -> Tensor:
            model.train()
            return nn.functional.cross_entropy(model([ids[row] for row in rows]), classes[list(rows)])

        def probabilities() -> Probabilities:
            model.eval()
            return fitted.predict(validation)

        fitted.curve = train_network(
            [{"params": list(model.parameters()), "lr": settings["learning_rate"]}],
            loss_of,
            probabilities,
            setup.classes(validation),
            num_rows=len(train),
            num_steps=setup.steps(len(train)),
            batch_size=setup.batch_size,
            seed=seed,
        )
        model.eval()
        return fitted


def _stable_hash(text: str) -> int:
    """gensim seeds each vector by a hash, which Python draws anew in each process."""
    return int.from_bytes(text.encode()[-6:], "big") + len(text)


Registry.add(WordVectorNetwork("bilstm", "word vectors + BiLSTM", BiLSTM))
Registry.add(WordVectorNetwork("textcnn", "word vectors + TextCNN", TextCNN))

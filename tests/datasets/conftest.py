"""Every test reads and caches in folders of its own."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HARDNEG_CACHE", str(folder))
    return folder


@pytest.fixture
def write(tmp_path):
    """Write files below a fresh folder and return the first one's path."""

    def make(**files):
        paths = []
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            paths.append(path)
        return paths[0]

    return make


@pytest.fixture
def rows():
    """Decode all rows of a dataset back to the user's tokens, by part."""

    def decode(dataset):
        fields = {"head": "entity", "tail": "entity"}
        out = {}
        for part, data in dataset.parts().items():
            columns = []
            for name, column in data.columns().items():
                field = fields.get(name, name)
                values = column.tolist()
                if field in dataset.vocabularies:
                    values = dataset.vocabularies[field].decode(values)
                columns.append(values)
            out[part] = list(zip(*columns, strict=True))
        return out

    return decode

"""Model files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pccodec.errors import ModelError
from pccodec.model import store
from pccodec.model.config import ModelConfig


def test_equal_content_gives_equal_files_and_ids(tmp_path: Path) -> None:
    tensors: dict[str, np.ndarray] = {
        "b": np.arange(5, dtype=np.int8),
        "a": np.ones((2, 3), dtype=np.float16),
    }
    first = store.save(tmp_path / "one.safetensors", ModelConfig(), tensors)
    second = store.save(tmp_path / "two.safetensors", ModelConfig(), dict(reversed(list(tensors.items()))))
    assert first == second and len(first) == 8
    loaded = store.load(str(tmp_path / "one.safetensors"))
    assert loaded.config == ModelConfig()
    assert (loaded.tensors["b"] == tensors["b"]).all()


def test_models_are_found_by_folder_and_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store.save(tmp_path / "mine.safetensors", ModelConfig(), {"a": np.zeros(1, dtype=np.int8)})
    monkeypatch.setenv("PCCODEC_MODELS", str(tmp_path))
    assert store.load("mine").id == made
    assert store.load_by_id(made).name == "mine"
    with pytest.raises(ModelError, match="needs the model"):
        store.load_by_id(bytes(8))


def test_a_model_given_by_path_is_known_by_id_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.safetensors"
    made = store.save(file, ModelConfig(), {"a": np.full(3, 7, dtype=np.int8)})
    store.load(str(file))
    assert store.load_by_id(made).name == "elsewhere"


def test_other_files_are_no_models(tmp_path: Path) -> None:
    file = tmp_path / "junk.safetensors"
    file.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not a pccodec model"):
        store.load(str(file))
    with pytest.raises(ModelError):
        store.load(str(tmp_path / "missing.safetensors"))


def test_the_shipped_model_has_a_card_and_all_its_parts() -> None:
    model = store.load()
    folder = next(folder for folder in store.folders() if (folder / f"{model.name}.safetensors").exists())
    assert (folder / f"{model.name}.json").exists() and (folder / f"{model.name}.md").exists()
    assert model.geometry.to_tensors()
    assert {level: len(table) for level, table in model.rank_tables.items()} == model.config.ranks
    assert model.synthesis.level(3).ranks == model.config.ranks[3]
    assert model.analysis.level(1)

"""The files that a loader opens decide the content hash, and none of them is outside of the folder."""

import json
import os
import shutil

import pytest
import torch
from checkpoint_kinds import change
from safetensors.torch import load_file, save_file
from tiny_models import make_sentence_transformer

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import load
from llara_eval.core.errors import DataError


@pytest.fixture
def sharded(copy):
    """Put the weights into a subfolder, twice, with an index that names the first."""
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    (copy / "weights").mkdir()
    for seed, name in enumerate("ab"):
        shifted = {key: weight + seed for key, weight in weights.items()}
        save_file(shifted, copy / "weights" / f"{name}.safetensors", {"format": "pt"})
    point(copy, "weights/a.safetensors")
    return copy


def point(folder, name) -> None:
    names = load_file(folder / "weights" / "a.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_an_index_and_the_weights_that_it_names_decide_the_content_hash(sharded) -> None:
    hashes = [Checkpoint(sharded).content_hash]
    vectors = [load(sharded, dtype="float32").encode(["text"], "query")]
    point(sharded, "weights/b.safetensors")
    hashes.append(Checkpoint(sharded).content_hash)
    vectors.append(load(sharded, dtype="float32").encode(["text"], "query"))
    weights = {key: weight * 2 for key, weight in load_file(sharded / "weights/b.safetensors").items()}
    save_file(weights, sharded / "weights/b.safetensors", {"format": "pt"})
    hashes.append(Checkpoint(sharded).content_hash)
    assert len(set(hashes)) == 3
    assert abs(vectors[0] - vectors[1]).max() > 0.01


def test_links_are_followed_and_hashed_by_their_content(sharded, tmp_path) -> None:
    expected = Checkpoint(sharded).content_hash
    blobs = tmp_path / "blobs"
    shutil.move(sharded / "weights", blobs)
    (sharded / "weights").symlink_to(blobs)
    assert Checkpoint(sharded).content_hash == expected
    save_file({"x": torch.ones(1)}, blobs / "a.safetensors")
    assert Checkpoint(sharded).content_hash != expected


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.safetensors", "weights/../../x", "", "nothing"])
def test_an_index_names_files_of_its_folder_only(sharded, name) -> None:
    point(sharded, name)
    for read in (lambda: Checkpoint(sharded).content_hash, lambda: load(sharded)):
        with pytest.raises(DataError, match=r"index\.json"):
            read()


@pytest.mark.parametrize("path", ["/", "../other", "1_Pooling/../../x"])
def test_modules_are_folders_of_the_folder(tmp_path, path) -> None:
    folder = make_sentence_transformer(tmp_path / "st")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["path"] = path
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(DataError, match=r"modules\.json: .* is not the name of a file in that folder"):
        load(folder)


def test_a_tokenizer_names_no_file_outside_of_its_folder(copy, tmp_path) -> None:
    (tmp_path / "vocab.txt").write_text("a")
    change(copy / "tokenizer_config.json", vocab_file="/a/place/of/its/authors/vocab.txt")
    load(copy)
    change(copy / "tokenizer_config.json", vocab_file=str(tmp_path / "vocab.txt"))
    with pytest.raises(DataError, match="outside of that folder"):
        load(copy)


@pytest.mark.parametrize(
    "name", ["modules.json", "template.json", "adapter_config.json", "router_config.json", "tokenizer.json"]
)
@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_there_and_is_no_file_is_an_error(copy, name, kind) -> None:
    (copy / name).unlink(missing_ok=True)
    make = {"folder": os.mkdir, "pipe": os.mkfifo, "link": lambda path: path.symlink_to("nowhere")}
    make[kind](copy / name)
    with pytest.raises(DataError, match=name):
        load(copy)

"""Messages of the library in the words of the command line."""

from __future__ import annotations

import pytest

from bioimage_py.cli import in_options


@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("pass overwrite=True to replace it", "pass --overwrite to replace it"),
        ("casting='check' stops at the first voxel", "--casting check stops at the first voxel"),
        ("a larger memory_limit or a larger block_shape would help", "a larger --memory-limit or a larger --block-shape would help"),
        ("Zarr v3 with shards=(64, 128, 128) would make 3", "Zarr v3 with --shards 64,128,128 would make 3"),
        ("shards=(64,) is enough", "--shards 64 is enough"),
        ("block_ids out of range", "--block-ids out of range"),
        ("leave out chunks= and shards=", "leave out --chunks and --shards"),
        ("num_workers must be positive", "--workers must be positive"),
        ("the mask has another shape, its chunks too", "the mask has another shape, its chunks too"),
        ("there is no file '/data/block_ids.tif'", "there is no file '/data/block_ids.tif'"),
        ("there is no file block_ids.tif", "there is no file block_ids.tif"),
        (
            "a.zarr is there: give overwrite=True to replace it, or open it with open_source('a.zarr', mode='r+') to write into it",
            "a.zarr is there: give --overwrite to replace it, or use --into-existing to write into it",
        ),
        ("name one, for example open_source('a b.n5', 'raw')", "name one, for example --key raw"),
        ("give a pattern, for example open_source('slices', '*.tif')", "give a pattern, for example --pattern '*.tif'"),
        ("the block_shape.", "the --block-shape."),
        ("Give tmp_root= a folder that you can write", "Give --run-folders a folder that you can write"),
        ("To finish: bioimage_py.resume('/my runs/1')", "To finish: bioimage-py resume '/my runs/1'"),
        ("it took longer than task_timeout", "it took longer than --task-timeout"),
    ],
)  # fmt: skip
def test_arguments_become_options(library: str, command: str) -> None:
    assert in_options(library) == command

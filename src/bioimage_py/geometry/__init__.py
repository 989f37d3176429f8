"""Integers only: boxes, blocks and blockings, numpy-index normalisation, run-length sets of block ids."""

from bioimage_py.geometry.blocking import Block, Blocking, BlockWithHalo, check_block_shape, to_roi
from bioimage_py.geometry.box import Box
from bioimage_py.geometry.id_set import IdSet, IdSetBuilder
from bioimage_py.geometry.index import BasicIndex, basic_index

__all__ = [
    "BasicIndex",
    "Block",
    "BlockWithHalo",
    "Blocking",
    "Box",
    "IdSet",
    "IdSetBuilder",
    "basic_index",
    "check_block_shape",
    "to_roi",
]

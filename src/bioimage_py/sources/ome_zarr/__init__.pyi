from .adding import GrowingImage as GrowingImage
from .archive import ARCHIVE_SUFFIX as ARCHIVE_SUFFIX, Archive as Archive
from .contrast import set_contrast_limits as set_contrast_limits
from .image_group import FULL_SIZE as FULL_SIZE, ImageGroup as ImageGroup
from .listing import (
    OmeZarrImage as OmeZarrImage,
    check_levels as check_levels,
    check_ome_zarr as check_ome_zarr,
    in_version as in_version,
    joined_key as joined_key,
    labels_beside as labels_beside,
    list_ome_zarr as list_ome_zarr,
    listed_images as listed_images,
    ome_zarr_group as ome_zarr_group,
    paired_arrays as paired_arrays,
    read_image as read_image,
    wrong_scales as wrong_scales,
)
from .mirror import (
    Mirror as Mirror,
    create_ome_zarr as create_ome_zarr,
    extents_for as extents_for,
)
from .nodes import Nodes as Nodes
from .tree import OmeZarrTree as OmeZarrTree, read_tree as read_tree
from .writing import (
    OME_XML as OME_XML,
    NewImage as NewImage,
    NewLevel as NewLevel,
    check_image as check_image,
    levels_for_labels as levels_for_labels,
    make_image as make_image,
    steps_between as steps_between,
)

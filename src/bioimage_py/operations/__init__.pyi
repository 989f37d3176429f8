from .copy_image import ImageCopy as ImageCopy, find_image_copy as find_image_copy
from .copy_image_input import is_image_copy as is_image_copy
from .copy_request import CopyRequest as CopyRequest, check_progress as check_progress
from .copy_target import (
    NewPathTarget as NewPathTarget,
    SingleTarget as SingleTarget,
    find_target as find_target,
)
from .one_pass_copy import OnePassCopy as OnePassCopy
from .options import (
    CopyOptions as CopyOptions,
    InputMetadata as InputMetadata,
    NewArray as NewArray,
    PyramidOptions as PyramidOptions,
    RunOptions as RunOptions,
)
from .pyramid_request import PyramidRequest as PyramidRequest
from .temporary_store import room_beside_path as room_beside_path
from .two_pass_copy import TwoPassCopy as TwoPassCopy

from .affine import AffineSource as AffineSource
from .image_kind import (
    KINDS as KINDS,
    are_said_labels as are_said_labels,
    chosen_method as chosen_method,
    looks_like_labels as looks_like_labels,
    warn_if_labels_are_mixed as warn_if_labels_are_mixed,
)
from .reduced import (
    ProjectionSource as ProjectionSource,
    ReducedSource as ReducedSource,
    checked_factors as checked_factors,
)
from .resized import ResizedSource as ResizedSource
from .splines import nearest as nearest
from .window_reduction import check_method as check_method, reduce_windows as reduce_windows

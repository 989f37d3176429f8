from .array import TiffFamily as TiffFamily, TiffSource as TiffSource
from .coding import check_jpeg_end as check_jpeg_end
from .ifd import FirstPage as FirstPage, first_page as first_page
from .layout import in_one_piece as in_one_piece, layout_of as layout_of, settled_segments as settled_segments
from .metadata import TiffTexts as TiffTexts, axis_names as axis_names
from .ome import companion_set as companion_set
from .parsing import (
    ParsedTiff as ParsedTiff,
    check_extent as check_extent,
    check_set as check_set,
    opened_tiff as opened_tiff,
    parse_tiff as parse_tiff,
)

from .alike import TiffSlices as TiffSlices, set_names as set_names
from .array import TiffSource as TiffSource
from .coding import check_jpeg_end as check_jpeg_end
from .family import TiffFamily as TiffFamily
from .ifd import first_page as first_page
from .metadata import axis_names as axis_names
from .new_file import encoded_plane as encoded_plane, settled as settled

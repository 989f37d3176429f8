from .assumed import assumptions as assumptions
from .attributes import (
    from_attributes as from_attributes,
    plain_value as plain_value,
    to_attributes as to_attributes,
    with_resolution as with_resolution,
)
from .bdv_xml import (
    bdv_metadata as bdv_metadata,
    bdv_view as bdv_view,
    placed as placed,
    read_bdv as read_bdv,
)
from .model import PER_CHANNEL as PER_CHANNEL, ImageMetadata as ImageMetadata, is_number as is_number
from .ome_ngff import (
    PROVISIONAL as PROVISIONAL,
    RESERVED as RESERVED,
    VERSIONS as VERSIONS,
    WRITTEN_VERSIONS as WRITTEN_VERSIONS,
    Level as Level,
    axes_and_datasets as axes_and_datasets,
    axes_for_ngff as axes_for_ngff,
    axis_type as axis_type,
    channel_count as channel_count,
    has_systems as has_systems,
    image_attributes as image_attributes,
    level_transformations as level_transformations,
    ngff_order as ngff_order,
    one_transformation as one_transformation,
    zarr_format_for as zarr_format_for,
)
from .ome_ngff_reading import (
    NgffDataset as NgffDataset,
    NgffImage as NgffImage,
    has_other_systems as has_other_systems,
    images_of as images_of,
    is_collection as is_collection,
    label_names as label_names,
    ome_of as ome_of,
    own_attributes as own_attributes,
    scene_paths as scene_paths,
    series_of as series_of,
    well_paths as well_paths,
    with_channels as with_channels,
    with_systems as with_systems,
)
from .ome_plate import Plate as Plate, plate_of as plate_of
from .overrides import overridden as overridden, without_nonsense as without_nonsense
from .units import (
    SPACE_UNITS as SPACE_UNITS,
    TIME_UNITS as TIME_UNITS,
    normalise_unit as normalise_unit,
    short_unit as short_unit,
    unit_ratio as unit_ratio,
    unit_symbol as unit_symbol,
)

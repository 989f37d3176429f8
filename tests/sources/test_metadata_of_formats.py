"""Voxel size, unit and place from files that other libraries wrote, through a copy, in an OME-Zarr."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import nibabel
import numpy as np
import pytest
import tensorstore as ts
import tifffile
import xarray
import zarr

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning
from bioimage_py.metadata import ImageMetadata, normalise_unit
from bioimage_py.sources import NumpySource, open_source
from tests.sources import ome_groups
from tests.sources.contract import textured

z5py = pytest.importorskip("z5py")

IMAGE = textured((4, 6, 8), "uint8")
SIZE = (2.0, 0.5, 0.25)


def ome_tiff(folder: Path) -> Any:
    about: dict[str, Any] = {"axes": "ZYX", "Channel": {"Name": ["dna"], "Color": [-16776961]}}
    for axis, size in zip("ZYX", SIZE, strict=True):
        about |= {f"PhysicalSize{axis}": size * 1000, f"PhysicalSize{axis}Unit": "nm"}
    tifffile.imwrite(folder / "a.ome.tif", IMAGE, ome=True, photometric="minisblack", metadata=about)
    return folder / "a.ome.tif"


def imagej_tiff(folder: Path) -> Any:
    about = {
        "axes": "ZYX",
        "spacing": 2.0,
        "unit": "\\u00B5m",
        "min": 3.0,
        "max": 90.0,
        "zorigin": -5,
        "LUTs": [lut(1)],
    }
    tifffile.imwrite(folder / "a.tif", IMAGE, imagej=True, resolution=(4, 2), metadata=about)
    return folder / "a.tif"


def plain_tiff(folder: Path) -> Any:
    tifffile.imwrite(folder / "a.tif", IMAGE[0], resolution=(40_000, 20_000), resolutionunit="CENTIMETER")
    return folder / "a.tif"


def plain_slices(folder: Path) -> Any:
    (folder / "slices").mkdir()
    for z, plane in enumerate(IMAGE):
        path = folder / f"slices/{z}.tif"
        tifffile.imwrite(path, plane, resolution=(40_000, 20_000), resolutionunit="CENTIMETER")
    return open_source(folder / "slices", "*.tif")


def imagej_slices(folder: Path) -> Any:
    (folder / "slices").mkdir()
    for z, plane in enumerate(IMAGE):
        about = {"axes": "YX", "unit": "um"}
        tifffile.imwrite(folder / f"slices/{z}.tif", plane, imagej=True, resolution=(4, 2), metadata=about)
    return open_source(folder / "slices", "*.tif")


def ome_slices(folder: Path) -> Any:
    (folder / "slices").mkdir()
    about = {"axes": "YX", "PhysicalSizeY": 0.5, "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}
    for z, plane in enumerate(IMAGE):
        tifffile.imwrite(folder / f"slices/{z}.ome.tif", plane, ome=True, metadata=about)
    return open_source(folder / "slices", "*.tif")


def old_ome_zarr(folder: Path) -> Any:
    ome_groups.image(folder / "in.zarr", "0.4", levels=2)
    return folder / "in.zarr"


def new_ome_zarr(folder: Path) -> Any:
    ome_groups.image(folder / "in.zarr", "0.5", levels=2)
    return str(folder / "in.zarr/1")


def n5(folder: Path, attributes: dict[str, Any], group: dict[str, Any] | None = None) -> Any:
    file = z5py.File(folder / "a.n5", "w")
    made = file.create_dataset("setup0/s1", data=IMAGE, chunks=(4, 6, 8), compression="gzip")
    for name, value in attributes.items():
        made.attrs[name] = value
    for name, value in (group or {}).items():
        file["setup0"].attrs[name] = value
    return folder / "a.n5/setup0/s1"


def n5_viewer(folder: Path) -> Any:
    resolution = {"dimensions": [0.125, 0.25, 2.0], "unit": "um"}
    return n5(folder, {"pixelResolution": resolution, "downsamplingFactors": [2, 2, 1]})


def n5_viewer_group(folder: Path) -> Any:
    factors = [[1, 1, 1], [2, 2, 1]]
    said = {
        "pixelResolution": {"dimensions": [0.125, 0.25, 2.0], "unit": "um"},
        "downsamplingFactors": factors,
    }
    return n5(folder, {}, said)


def n5_cosem(folder: Path) -> Any:
    said = {"axes": ["z", "y", "x"], "scale": [2000, 500, 250], "translate": [10, 0, 0], "units": ["nm"] * 3}
    return n5(folder, {"transform": said})


def n5_cosem_reversed(folder: Path) -> Any:
    said = {"axes": ["x", "y", "z"], "scale": [250, 500, 2000], "translate": [0, 0, 10], "units": ["nm"] * 3}
    return n5(folder, {"transform": said})


def n5_saalfeldlab(folder: Path) -> Any:
    said = {
        "axes": ["x", "y", "z"],
        "units": ["um"] * 3,
        "resolution": [0.25, 0.5, 2.0],
        "offset": [0, 0, 10],
    }
    return n5(folder, said)


def n5_saalfeldlab_group(folder: Path) -> Any:
    said = {
        "axes": ["x", "y", "z"],
        "units": ["um"] * 3,
        "resolution": [0.25, 0.5, 2.0],
        "offset": [0, 0, 10],
    }
    return n5(folder, {}, said)


def hdf5_imagej(folder: Path) -> Any:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("data", data=IMAGE).attrs["element_size_um"] = SIZE
    return folder / "a.h5"


def hdf5_ilastik(folder: Path) -> Any:
    tags = [{"key": key, "typeFlags": 2, "resolution": 0, "description": ""} for key in "czyx"]
    with h5py.File(folder / "a.h5", "w") as file:
        made = file.create_dataset("data", data=IMAGE[np.newaxis])
        made.attrs["axistags"] = json.dumps({"axes": tags})
        made.attrs["element_size_um"] = SIZE
    return folder / "a.h5"


def hdf5_vigra(folder: Path) -> Any:
    sizes = dict(zip("zyx", SIZE, strict=True))
    tags = [{"key": key, "typeFlags": 2, "resolution": sizes[key], "description": ""} for key in "zyx"]
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("data", data=IMAGE).attrs["axistags"] = json.dumps({"axes": tags})
    return folder / "a.h5"


def bdv_xml(path: Path) -> None:
    size = "<voxelSize><unit>um</unit><size>0.125 0.25 2.0</size></voxelSize>"
    setups = f"<ViewSetup><id>0</id></ViewSetup><ViewSetup><id>1</id>{size}</ViewSetup>"
    path.write_text(
        f"<SpimData><SequenceDescription><ViewSetups>{setups}</ViewSetups></SequenceDescription></SpimData>"
    )


def hdf5_bdv(folder: Path) -> Any:
    with h5py.File(folder / "a.h5", "w") as file:
        file["s01/resolutions"] = [[1.0, 1, 1], [2, 2, 1]]
        file["t00000/s01/1/cells"] = IMAGE
    bdv_xml(folder / "a.xml")
    return f"{folder}/a.h5:/t00000/s01/1/cells"


def n5_bdv(folder: Path) -> Any:
    file = z5py.File(folder / "a.n5", "w")
    file.create_dataset("setup1/timepoint0/s1", data=IMAGE, chunks=(4, 6, 8), compression="gzip")
    file["setup1"].attrs["downsamplingFactors"] = [[1, 1, 1], [2, 2, 1]]
    file["setup1/timepoint0"].attrs["resolution"] = [1.0, 1.0, 1.0]
    bdv_xml(folder / "a.xml")
    return folder / "a.n5/setup1/timepoint0/s1"


def mrc(folder: Path) -> Any:
    with mrcfile.new(folder / "a.mrc", IMAGE.astype("int8")) as file:
        file.voxel_size = (2500.0, 5000.0, 20000.0)
        file.header.origin = (0, 0, 100)
    return folder / "a.mrc"


def nifti(folder: Path) -> Any:
    affine = np.diag([*SIZE[::-1], 1.0])
    affine[2, 3] = 10
    made = nibabel.Nifti1Image(IMAGE.T, affine)
    made.header.set_xyzt_units("micron", "sec")
    nibabel.save(made, folder / "a.nii")
    return folder / "a.nii"


def precomputed(folder: Path) -> Any:
    scale = {
        "key": "s0", "size": [8, 6, 4], "chunk_sizes": [[8, 6, 4]], "encoding": "raw", "resolution": [250, 500, 2000],
        "voxel_offset": [0, 0, 5],
    }  # fmt: skip
    info = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "image",
        "data_type": "uint8",
        "num_channels": 1,
    }
    (folder / "a.precomputed/s0").mkdir(parents=True)
    (folder / "a.precomputed/info").write_text(json.dumps({**info, "scales": [scale]}))
    spec = {"driver": "neuroglancer_precomputed", "kvstore": f"file://{folder}/a.precomputed/"}
    ts.open(spec).result()[..., 0].T[...].write(IMAGE).result()
    return folder / "a.precomputed"


def from_xarray(folder: Path) -> Any:
    return xarray.DataArray(
        IMAGE,
        dims=tuple("zyx"),
        coords={
            d: (d, 1 + np.arange(n) * s, {"units": "um"})
            for d, n, s in zip("zyx", IMAGE.shape, SIZE, strict=True)
        },
    )


def lut(channel: int) -> np.ndarray:
    table = np.zeros((3, 256), "uint8")
    table[channel] = np.arange(256)
    return table


UM = ("micrometer",) * 3
NM = ("nanometer",) * 3
NM_SIZE = (2000.0, 500.0, 250.0)
TO_SUPERIOR = tuple(
    {"type": "anatomical", "value": way}
    for way in ("inferior-to-superior", "posterior-to-anterior", "left-to-right")
)
LIMITS = tuple(np.percentile(IMAGE, (0.1, 99.8), method="inverted_cdf").tolist())
EXPECTED: list[tuple[Callable[[Path], Any], ImageMetadata]] = [
    (ome_tiff, ImageMetadata(tuple("zyx"), NM_SIZE, NM, None, ("dna",), ("FF0000",), (LIMITS,))),
    (
        imagej_tiff,
        ImageMetadata(tuple("zyx"), SIZE, UM, (10.0, 0.0, 0.0), None, ("00FF00",), ((3, 90),)),
    ),
    (plain_tiff, ImageMetadata(tuple("yx"), SIZE[1:], UM[1:])),
    (plain_slices, ImageMetadata(tuple("zyx"), (1.0, *SIZE[1:]), (None, *UM[1:]))),
    (imagej_slices, ImageMetadata(tuple("zyx"), (1.0, *SIZE[1:]), (None, *UM[1:]))),
    (ome_slices, ImageMetadata(tuple("zyx"), (1.0, 0.5, 250.0), (None, "micrometer", "nanometer"))),
    (old_ome_zarr, ImageMetadata(tuple("zyx"), (2.0, 0.5, 0.5), UM)),
    (new_ome_zarr, ImageMetadata(tuple("zyx"), (2.0, 1.0, 1.0), UM)),
    (n5_viewer, ImageMetadata(tuple("zyx"), SIZE, UM, (0.0, 0.125, 0.0625))),
    (n5_viewer_group, ImageMetadata(tuple("zyx"), SIZE, UM, (0.0, 0.125, 0.0625))),
    (n5_cosem, ImageMetadata(tuple("zyx"), NM_SIZE, NM, (10.0, 0.0, 0.0))),
    (n5_cosem_reversed, ImageMetadata(tuple("zyx"), NM_SIZE, NM, (10.0, 0.0, 0.0))),
    (n5_saalfeldlab, ImageMetadata(tuple("zyx"), SIZE, UM, (10.0, 0.0, 0.0))),
    (n5_saalfeldlab_group, ImageMetadata(tuple("zyx"), SIZE, UM, (10.0, 0.0, 0.0))),
    (hdf5_imagej, ImageMetadata(tuple("zyx"), SIZE, UM)),
    (hdf5_ilastik, ImageMetadata(tuple("czyx"), (1.0, *SIZE), (None, *UM))),
    (hdf5_vigra, ImageMetadata(tuple("zyx"), SIZE)),
    (hdf5_bdv, ImageMetadata(tuple("zyx"), SIZE, UM, (0.0, 0.125, 0.0625))),
    (n5_bdv, ImageMetadata(tuple("zyx"), SIZE, UM, (0.0, 0.125, 0.0625))),
    (mrc, ImageMetadata(tuple("zyx"), (20000.0, 5000.0, 2500.0), ("angstrom",) * 3, (100.0, 0.0, 0.0))),
    (nifti, ImageMetadata(tuple("zyx"), SIZE, UM, (10.0, 0.0, 0.0), orientations=TO_SUPERIOR)),
    (precomputed, ImageMetadata(tuple("zyx"), NM_SIZE, NM, (10000.0, 0.0, 0.0))),
    (from_xarray, ImageMetadata(tuple("zyx"), SIZE, UM, (1.0, 1.0, 1.0))),
]


@pytest.mark.parametrize(("write", "expected"), EXPECTED, ids=[write.__name__ for write, _ in EXPECTED])
def test_what_a_file_says_is_in_the_ome_zarr(
    write: Callable[[Path], Any], expected: ImageMetadata, tmp_path: Path
) -> None:
    bp.copy(write(tmp_path), tmp_path / "out.ome.zarr")
    found = open_source(tmp_path / "out.ome.zarr").metadata
    for name in vars(expected):
        if name != "attributes":
            assert getattr(found, name) == getattr(expected, name), name


@pytest.mark.parametrize("name", ["a.zarr", "a.n5/raw", "a.h5:/raw", "a.precomputed"])
def test_everything_known_is_in_every_store(name: str, tmp_path: Path) -> None:
    known = ImageMetadata(
        tuple("czyx"),
        (1.0, *SIZE),
        (None, *UM),
        (0.0, 4.0, -1.0, 0.0),
        ("dna", "actin"),
        ("0000FF", "00FF00"),
        ((10, 4000), (0.5, 99.5)),
        {"sample": {"id": [3, None]}},
    )
    source = NumpySource(np.stack([IMAGE, IMAGE]), known)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if "precomputed" not in name else "ignore")
        bp.copy(source, tmp_path / name)
    assert open_source(f"{tmp_path}/{name}").metadata == known


@pytest.mark.parametrize(
    "write", [n5_viewer, n5_cosem, n5_saalfeldlab], ids=lambda write: str(write.__name__)
)
def test_each_reader_of_n5_finds_its_own_words(write: Callable[[Path], Any], tmp_path: Path) -> None:
    bp.copy(open_source(write(tmp_path), axes="zyx"), tmp_path / "out.n5/raw")
    said = z5py.File(tmp_path / "out.n5", "r")["raw"].attrs
    size = open_source(write(tmp_path)).metadata.voxel_size
    assert size is not None
    unit = "nm" if size[0] > 100 else "um"
    assert said["resolution"] == list(size[::-1])
    assert said["pixelResolution"] == {"dimensions": list(size[::-1]), "unit": unit}
    assert (said["transform"]["scale"], said["transform"]["units"]) == (list(size), [unit] * 3)
    assert "downsamplingFactors" not in said
    assert open_source(tmp_path / "out.n5").metadata.origin == open_source(write(tmp_path)).metadata.origin


def test_names_that_n5_keeps_to_itself_are_named(tmp_path: Path) -> None:
    with pytest.warns(BioimagePyWarning, match="attributes dimensions, n5 of the input are not written"):
        bp.create_output(
            tmp_path / "a.n5/raw", shape=(3,), dtype="u1", attributes={"dimensions": 4, "n5": 1, "kept": 2}
        )
    assert open_source(tmp_path / "a.n5").metadata.attributes == {"kept": 2}


@pytest.mark.parametrize(
    ("unit", "written", "factor"),
    [
        ("angstrom", "nm", 0.1),
        ("femtometer", "pm", 1e-3),
        ("micrometer", "um", 1.0),
        ("centimeter", "mm", 10.0),
        ("inch", "mm", 25.4),
        ("megameter", "km", 1e3),
    ],
)
def test_n5_has_units_that_neuroglancer_knows(unit: str, written: str, factor: float, tmp_path: Path) -> None:
    known = ImageMetadata(tuple("zyx"), SIZE, (unit,) * 3, (20.0, 0.0, 0.0))
    bp.copy(NumpySource(IMAGE, known), tmp_path / "a.n5")
    said = json.loads((tmp_path / "a.n5/attributes.json").read_text())
    assert said["units"] == said["transform"]["units"] == [written] * 3
    assert said["pixelResolution"]["unit"] == written
    found = open_source(tmp_path / "a.n5").metadata
    assert found.units == (normalise_unit(written),) * 3
    assert found.voxel_size == pytest.approx([factor * size for size in SIZE], rel=1e-14)
    assert found.origin == pytest.approx([factor * 20, 0, 0], rel=1e-14)


@pytest.mark.parametrize("axes", ["xyz", "zyx", "xzy", "txy", "yx"])
def test_n5_keeps_which_axis_is_which(axes: str, tmp_path: Path) -> None:
    sizes = tuple(2.0 + n for n in range(len(axes)))
    known = ImageMetadata(tuple(axes), sizes, tuple("second" if a == "t" else "micrometer" for a in axes))
    bp.copy(NumpySource(IMAGE[0] if len(axes) == 2 else IMAGE, known), tmp_path / "a.n5")
    assert open_source(tmp_path / "a.n5").metadata == known
    bp.copy(tmp_path / "a.n5", tmp_path / "b.n5/raw")
    assert open_source(tmp_path / "b.n5").metadata == known


def test_resolution_in_c_order_is_read_as_such(tmp_path: Path) -> None:
    said = {"resolution": [40, 4.0, 8], "offset": [400, 8, 16]}
    for name in ("a.zarr", "a.h5"):
        bp.create_output(tmp_path / name, shape=IMAGE.shape, dtype="u1", attributes=said)
        found = open_source(tmp_path / name).metadata
        assert (found.voxel_size, found.origin) == ((40.0, 4.0, 8.0), (400.0, 8.0, 16.0))
        assert found.attributes == said, "daisy finds it where it was"
        out = tmp_path / f"{name}.n5"
        bp.copy(tmp_path / name, out)
        written = json.loads((out / "attributes.json").read_text())
        assert (written["resolution"], written["offset"]) == ([8.0, 4.0, 40.0], [16.0, 8.0, 400.0])
        found = open_source(out).metadata
        assert (found.voxel_size, found.origin) == ((40.0, 4.0, 8.0), (400.0, 8.0, 16.0))


def test_offset_beside_a_voxel_size(tmp_path: Path) -> None:
    """As funlib writes it."""
    said = {"voxel_size": [40, 4, 8], "offset": [400, 8, 16], "units": ["nm", "nm", "nm"]}
    zarr.create_array(tmp_path / "a.zarr", data=IMAGE, attributes=said)
    bp.copy(tmp_path / "a.zarr", tmp_path / "b.n5")
    bp.copy(tmp_path / "a.zarr", tmp_path / "c.zarr")
    for name in ("a.zarr", "b.n5", "c.zarr"):
        found = open_source(tmp_path / name).metadata
        assert (found.voxel_size, found.origin) == ((40.0, 4.0, 8.0), (400.0, 8.0, 16.0)), name
        assert found.units == NM


@pytest.mark.parametrize("name", ["o.zarr", "o.ome.zarr", "o.n5", "o.precomputed"])
def test_nan_in_json_is_told(name: str, tmp_path: Path) -> None:
    source = NumpySource(IMAGE, ImageMetadata(attributes={"gain": [1.5, float("nan")], "kept": 1.5}))
    with pytest.warns(BioimagePyWarning, match="in the attributes gain are written as text"):
        bp.copy(source, tmp_path / name)
    assert open_source(tmp_path / name).metadata.attributes == {"gain": [1.5, "NaN"], "kept": 1.5}


def test_resolution_of_space_only(tmp_path: Path) -> None:
    said = {"resolution": [40, 4, 8], "units": "nm"}
    bp.create_output(tmp_path / "a.zarr", shape=(2, *IMAGE.shape), dtype="u1", attributes=said)
    found = open_source(tmp_path / "a.zarr").metadata
    assert (found.voxel_size, found.units) == ((1.0, 40.0, 4.0, 8.0), (None, *NM))
    bp.copy(tmp_path / "a.zarr", tmp_path / "b.n5")
    found = open_source(tmp_path / "b.n5").metadata
    assert (found.voxel_size, found.units) == ((1.0, 40.0, 4.0, 8.0), (None, *NM))


def test_attributes_that_n5_would_read_otherwise_get_another_name(tmp_path: Path) -> None:
    attributes = {"units": ["V", "K", "lx"], "resolution": [7, 8, 9], "transform": "none", "kept": 1}
    source = NumpySource(IMAGE, ImageMetadata(tuple("zyx"), SIZE, UM, attributes=attributes))
    with pytest.warns(BioimagePyWarning, match="input_units, input_resolution, input_transform"):
        bp.copy(source, tmp_path / "a.n5")
    found = open_source(tmp_path / "a.n5").metadata
    assert (found.axes, found.voxel_size, found.units) == (tuple("zyx"), SIZE, UM)
    assert found.attributes == {
        "input_units": ["V", "K", "lx"], "input_resolution": [7, 8, 9], "input_transform": "none", "kept": 1,
    }  # fmt: skip


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("units", [["um", "um", "um"], ["V", "K", "lx"], "kelvin", {"x": "um"}])
def test_units_of_the_user_stay_as_they_are(units: Any, zarr_format: int, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=IMAGE, zarr_format=zarr_format, attributes={"units": units})
    bp.copy(tmp_path / "a.zarr", tmp_path / "b.zarr", zarr_format=zarr_format)
    assert dict(zarr.open_array(tmp_path / "b.zarr").attrs) == {"units": units}
    if units == ["um", "um", "um"]:
        assert open_source(tmp_path / "b.zarr").metadata.units == UM
        return
    with pytest.warns(BioimagePyWarning) as caught:
        bp.copy(
            tmp_path / "a.zarr", tmp_path / "c.zarr", zarr_format=zarr_format, voxel_size=SIZE, units="um"
        )
    assert any("attributes of its own called units" in str(one.message) for one in caught)
    assert zarr.open_array(tmp_path / "c.zarr").attrs["units"] == units


@pytest.mark.parametrize("name", ["o.zarr", "o.ome.zarr", "o.n5", "o.h5", "o.precomputed"])
def test_integers_of_any_size_are_kept(name: str, tmp_path: Path) -> None:
    said = {"id": 2**70, "deep": {"list": [-(2**65), 1.5]}}
    source = NumpySource(IMAGE, ImageMetadata(attributes=said))
    bp.copy(source, tmp_path / name)
    assert open_source(tmp_path / name).metadata.attributes == said
    if name.endswith(".zarr"):
        zarr.create_array(tmp_path / "in.zarr", data=IMAGE, attributes=said)
        bp.copy(tmp_path / "in.zarr", tmp_path / f"again-{name}")
        assert open_source(tmp_path / f"again-{name}").metadata.attributes == said


def nonsense_ome(folder: Path) -> Path:
    about = {"axes": "YX", "PhysicalSizeX": -1.0, "PhysicalSizeXUnit": "pixel", "PhysicalSizeY": 2.0}
    tifffile.imwrite(folder / "a.ome.tif", IMAGE[0], ome=True, metadata=about)
    return folder / "a.ome.tif"


def nonsense_imagej(folder: Path) -> Path:
    tifffile.imwrite(
        folder / "a.tif", IMAGE, imagej=True, metadata={"axes": "ZYX", "spacing": 0, "unit": "pixel"}
    )
    return folder / "a.tif"


def nonsense_n5(folder: Path) -> Any:
    return n5(folder, {"resolution": [1, 0, 1], "units": ["px"] * 3})


def nonsense_hdf5(folder: Path) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("data", data=IMAGE).attrs["element_size_um"] = (np.nan, 1.0, -1.0)
    return folder / "a.h5"


def nonsense_mrc(folder: Path) -> Path:
    with mrcfile.new(folder / "a.mrc", IMAGE.astype("int8")) as file:
        file.header.cella = (8, -6, 4)
    return folder / "a.mrc"


def nonsense_nifti(folder: Path) -> Path:
    made = nibabel.Nifti1Image(IMAGE.T, np.eye(4))
    made.header["pixdim"][1] = 0
    nibabel.save(made, folder / "a.nii")
    raw = bytearray((folder / "a.nii").read_bytes())
    raw[80:84] = np.float32(np.nan).tobytes()
    (folder / "a.nii").write_bytes(raw)
    return folder / "a.nii"


def nonsense_precomputed(folder: Path) -> Any:
    precomputed(folder)
    path = folder / "a.precomputed/info"
    path.write_text(path.read_text().replace("250", "-250"))
    return path.parent


def nonsense_zarr(folder: Path) -> Path:
    attributes = {"axes": ["z", "y", "x"], "voxel_size": [1.0, 0.0, 1.0], "units": ["px", "px", "px"]}
    zarr.create_array(folder / "a.zarr", data=IMAGE, attributes=attributes)
    return folder / "a.zarr"


def read_twice(path: Path) -> ImageMetadata:
    source = open_source(path)
    assert source.metadata == source.metadata
    return source.metadata


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (nonsense_ome, "voxel size -1 of x, unit 'pixel' of x"),
        (nonsense_imagej, "voxel size 0 of z, unit 'pixel' of z, unit 'pixel' of y, unit 'pixel' of x"),
        (nonsense_n5, "voxel size 0 of axis 1, unit 'px' of axis 0"),
        (nonsense_hdf5, "voxel size nan of axis 0, voxel size -1 of axis 2"),
        (nonsense_mrc, "voxel size -1 of y"),
        (nonsense_nifti, "voxel size nan of x"),
        (nonsense_precomputed, "voxel size -250 of x"),
        (nonsense_zarr, "voxel size 0 of y, unit 'px' of z"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_nonsense_is_one_warning(write: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.warns(BioimagePyWarning, match=words) as caught:
        found = read_twice(path)
    assert len(caught) == 1
    assert found.voxel_size is None or all(size > 0 for size in found.voxel_size)
    assert set(found.units or ()) <= {None, "micrometer", "nanometer", "angstrom", "millimeter"}

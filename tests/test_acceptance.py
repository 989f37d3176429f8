"""What people do in their first hour, and what goes wrong for them: from end to end, judged by other libraries."""

from __future__ import annotations

import gzip
import io
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import nibabel
import numpy as np
import pytest
import tensorstore
import tifffile
import z5py
import zarr
from PIL import Image

import bioimage_py as bp
from bioimage_py.errors import BioimagePyError, OutputExistsError, RunnerError
from bioimage_py.wrapper import MultiTransformationSource, SimpleTransformationWithHaloSource, ThresholdSource
from bioimage_py.wrapper.shape import ExpandDimsSource, PadSource, RoiSource
from bioimage_py.wrapper.values import NormalizeSource
from tests.sources.contract import textured

SHAPE = (10, 24, 30)
COMMAND = Path(sys.executable).with_name("bioimage-py")


@pytest.fixture
def image() -> np.ndarray:
    return textured(SHAPE, "uint16")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with one below it."""
    folder = tmp_path / "here"
    (folder / "below").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def by_other_libraries(path: Path | str, key: str = "") -> np.ndarray:
    """Read what was written without any of our code."""
    name = str(path)
    if name.endswith(".zarr"):
        return np.asarray(zarr.open_array(f"{name}/{key}" if key else name, mode="r")[...])
    if name.endswith(".n5"):
        with z5py.File(name, "r") as file:
            return np.asarray(file[key][:])
    if name.endswith(".h5"):
        with h5py.File(name, "r") as file:
            return np.asarray(file[key or "data"][...])
    if name.endswith(".npy"):
        return np.asarray(np.load(name))
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": name}}
    found = tensorstore.open(spec, read=True).result().read().result()
    return np.asarray(found[..., 0].T)


OUTPUTS = {
    "zarr": ("o.zarr", "", {}),
    "zarr2": ("o.zarr", "", {"zarr_format": 2}),
    "sharded": ("o.zarr", "", {"chunks": (5, 8, 10), "shards": (10, 16, 20)}),
    "zarr group": ("o.zarr/volumes/raw", "volumes/raw", {}),
    "n5": ("o.n5/volumes/raw", "volumes/raw", {}),
    "hdf5": ("o.h5:/volumes/raw", "volumes/raw", {}),
    "npy": ("o.npy", "", {}),
    "precomputed": ("o.precomputed", "", {}),
}
EACH_OUTPUT = pytest.mark.parametrize(("path", "key", "options"), OUTPUTS.values(), ids=OUTPUTS)


def stored_at(path: str) -> Path:
    """The file or container of an output path."""
    return Path(path.partition(":")[0].partition("/volumes")[0])


# ------------------------------------------------------------------------------------------------ other people's files


@pytest.mark.filterwarnings("ignore:a .npy file stores voxels only:bioimage_py.errors.BioimagePyWarning")
@pytest.mark.filterwarnings("ignore:.*neuroglancer will not see:bioimage_py.errors.BioimagePyWarning")
@EACH_OUTPUT
def test_real_files_go_everywhere(
    here: Path, shared_data: Path, path: str, key: str, options: dict[str, Any]
) -> None:
    with mrcfile.open(shared_data / "EMD-3001.map") as file:
        density = np.array(file.data)
    pollen = np.load(io.BytesIO(gzip.decompress((shared_data / "Misc_pollen.npy.gz").read_bytes())))
    photo = np.asarray(Image.open(shared_data / "reference_image.png"))
    np.save("pollen.npy", pollen)
    files: list[tuple[str | Path, np.ndarray]] = [
        (shared_data / "EMD-3001.map", density),
        (shared_data / "z5py.n5" / "raw", photo),
        (f"{shared_data}/z5py.n5/gzip", photo),
        (shared_data / "reference_image.png", photo),
        ("pollen.npy", pollen),
    ]
    for source, expected in files:
        if path == "o.precomputed" and expected.ndim != 3:
            continue  # it has three axes of space
        layout = {"chunks": (64,) * expected.ndim, "shards": (256,) * expected.ndim}
        new = layout if "shards" in options else options
        bp.copy(source, path, num_workers=2, overwrite=stored_at(path).exists(), **new).close()
        axes = bp.open_source(source).metadata.axes
        if path == "o.precomputed" and axes is not None:
            # The sections of the map are along y; here they are along z, and the samples of the photo along c.
            expected = expected.transpose(sorted(range(3), key=lambda n: "czyx".index(axes[n])))  # noqa: PLW2901
        np.testing.assert_array_equal(by_other_libraries(stored_at(path), key), expected)
        assert bp.verify(source, path)


def test_the_voxel_size_of_the_density_map_goes_with_it(here: Path, shared_data: Path) -> None:
    for name in ("o.zarr", "o.n5/a", "o.h5"):
        with bp.copy(shared_data / "EMD-3001.map", name) as made:
            sizes = dict(zip(made.metadata.axes, made.metadata.voxel_size, strict=True))
            in_nm = 0.1 if name == "o.n5/a" else 1  # viewers of N5 do not know angstrom
            assert sizes == pytest.approx({"z": 0.45875 * in_nm, "y": 0.3925 * in_nm, "x": 0.44825 * in_nm})
            assert set(made.metadata.units) == {"nanometer" if name == "o.n5/a" else "angstrom"}


# -------------------------------------------------------------------------------------------------- names and places


def write_inputs(folder: Path, image: np.ndarray) -> dict[str, str]:
    """One file of every format, made by other libraries where there is one."""
    tifffile.imwrite(folder / "deflate.tif", image, compression="zlib")
    tifffile.imwrite(folder / "plain.tif", image)
    (folder / "slices").mkdir()
    for z, plane in enumerate(image):
        tifffile.imwrite(folder / "slices" / f"s{z}.tif", plane)
    np.save(folder / "i.npy", image)
    with h5py.File(folder / "i.h5", "w") as file:
        file.create_dataset("raw", data=image, chunks=(4, 8, 8), compression="gzip")
    zarr.create_array(folder / "i.zarr", data=image, chunks=(4, 8, 8))
    with z5py.File(str(folder / "i.n5"), "w") as file:
        file.create_dataset("raw", data=image, chunks=(4, 8, 8), compression="gzip")
    bp.copy(image, folder / "i.precomputed").close()
    with mrcfile.new(folder / "i.mrc") as file:
        file.set_data(image)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / "i.nii")
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / "i.nii.gz")
    names = ["deflate.tif", "plain.tif", "slices", "i.npy", "i.h5", "i.zarr", "i.n5/raw", "i.precomputed"]
    return {name: name for name in [*names, "i.mrc", "i.nii", "i.nii.gz"]}


def test_a_source_outlives_a_change_of_folder(
    here: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = []
    for name in write_inputs(here, image):
        with bp.open_source(name) as source:
            monkeypatch.chdir(here / "below")
            try:
                copied = bp.copy(source, num_workers=2, block_shape=SHAPE)
                if not (np.array_equal(copied, image) and np.array_equal(source[3], image[3])):
                    lost.append(name)
            except BioimagePyError as error:
                lost.append(f"{name}: {error}")
            monkeypatch.chdir(here)
    assert lost == []


@EACH_OUTPUT
def test_an_output_outlives_a_change_of_folder(
    here: Path,
    image: np.ndarray,
    path: str,
    key: str,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with bp.create_output(path, like=image, **options) as output:
        monkeypatch.chdir(here / "below")
        bp.copy(image, output, num_workers=2)
        output.flush()
    assert list((here / "below").iterdir()) == []
    np.testing.assert_array_equal(by_other_libraries(here / stored_at(path), key), image)


@pytest.mark.parametrize(
    "name", ["höhe µm", "日本", "a b", "a#b?c", "a%20b", "a[1]*", "-x", "q'\"", "a:b", "$HOME"]
)
@pytest.mark.parametrize("ending", [".zarr", ".n5", ".h5", ".npy", ".precomputed", ".tif"])
def test_a_file_may_be_called_anything(here: Path, image: np.ndarray, name: str, ending: str) -> None:
    path = name + ending
    if ending == ".tif":
        tifffile.imwrite(path, image, compression="zlib")
    else:
        bp.copy(image, path).close()
    assert {entry.name for entry in here.iterdir()} == {path, "below"}
    assert bp.verify(image, path)


def test_links_are_followed(here: Path, image: np.ndarray) -> None:
    bp.copy(image, "a.zarr").close()
    Path("link.zarr").symlink_to("a.zarr")
    with pytest.raises(ValueError, match="differ"):
        bp.copy("link.zarr", "a.zarr", overwrite=True)
    bp.copy(image // 2, "link.zarr", overwrite=True).close()
    assert Path("link.zarr").is_symlink()
    np.testing.assert_array_equal(by_other_libraries("a.zarr"), image // 2)
    Path("broken.tif").symlink_to("gone.tif")
    with pytest.raises(FileNotFoundError, match=r"is a link to 'gone\.tif'"):
        bp.open_source("broken.tif")


# ------------------------------------------------------------------------------------------------------ live handles


def test_handles_of_other_libraries_are_written_into_and_returned(here: Path, image: np.ndarray) -> None:
    mask = image > 20000
    expected = np.where(mask, image, 0)

    def filled(handle: Any) -> None:
        assert bp.copy(image, handle, mask=mask, num_workers=2) is handle
        np.testing.assert_array_equal(handle[:], expected)
        np.testing.assert_array_equal(bp.copy(handle), expected)

    filled(np.zeros_like(image))
    filled(zarr.create_array("a.zarr", shape=SHAPE, chunks=(4, 8, 9), dtype="uint16"))
    filled(zarr.create_array("b.zarr", shape=SHAPE, chunks=(5, 8, 10), shards=(10, 8, 20), dtype="uint16"))
    filled(zarr.create_array({}, shape=SHAPE, chunks=(4, 8, 9), dtype="uint16"))
    with h5py.File("a.h5", "w") as file:
        filled(file.create_dataset("raw", SHAPE, "uint16", chunks=(4, 8, 9), compression="gzip"))
    with z5py.File("a.n5", "w") as file:
        filled(file.create_dataset("raw", shape=SHAPE, dtype="uint16", chunks=(4, 8, 9), compression="gzip"))


def test_a_chain_of_wrappers_is_stored_as_numpy_computes_it(here: Path, image: np.ndarray) -> None:
    tifffile.imwrite("a.tif", image, compression="zlib")
    scaled = NormalizeSource(RoiSource("a.tif", np.s_[2:9, ...]), min=100, max=60000)
    chain = ExpandDimsSource(
        ThresholdSource(PadSource(scaled, ((1, 2), 0, (3, 4)), mode="reflect"), 0.5), axis=0
    )
    part = np.clip((image[2:9].astype("float64") - 100) / 59900, 0, 1)
    expected = np.pad(part, ((1, 2), (0, 0), (3, 4)), mode="reflect")[np.newaxis] > 0.5
    bp.copy(chain, "o.zarr", chunks=(1, 3, 8, 9), num_workers=2).close()
    np.testing.assert_array_equal(by_other_libraries("o.zarr"), expected)


# ---------------------------------------------------------------------------------------------- what is no good value

NO_GOOD: tuple[Any, ...] = (
    [1], "", "abc", -1, 0, 3.5, float("nan"), float("inf"), True, (0, 0, 0), (-1, 1, 1), ("a", "b", "c"), (None,) * 3,
    {"a": 1}, object(), b"x", 10**30, (10**30,) * 3, np.array(3), "\0",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::bioimage_py.errors.BioimagePyWarning")
@pytest.mark.parametrize(
    "option",
    ["block_shape", "job_type", "job_config", "mask", "resume_from", "casting", "memory_limit", "overwrite", "dtype", "codec", "zarr_format",
     "progress", "output"],
)  # fmt: skip
def test_wrong_arguments_are_errors_of_ours(here: Path, image: np.ndarray, option: str) -> None:
    refused = 0
    for n, value in enumerate(NO_GOOD):
        arguments: dict[str, Any] = {"output": f"{n}.zarr", option: value}
        try:
            bp.copy(image, **arguments)
        except BioimagePyError:
            refused += 1
            assert not Path(f"{n}.zarr").exists(), (option, value)
    assert refused >= len(NO_GOOD) // 2


@pytest.mark.parametrize(
    "call",
    [
        bp.open_source,
        lambda value: bp.open_source("i.n5", key=value),
        lambda value: bp.open_source("i.n5/raw", mode=value),
        bp.from_spec,
        lambda value: bp.from_spec({"kind": value}),
        lambda value: bp.create_output("o.zarr", shape=SHAPE, dtype="uint8", attributes=value),
        lambda value: bp.create_output("o.zarr", shape=SHAPE, dtype=value),
        lambda value: bp.create_output("o.zarr", shape=value, dtype="uint8", overwrite=True),
        lambda value: bp.verify("i.n5/raw", value),
        lambda value: ThresholdSource("i.n5/raw", value),
        lambda value: RoiSource("i.n5/raw", value),
        lambda value: PadSource("i.n5/raw", 1, mode=value),
        lambda value: PadSource("i.n5/raw", value),
        lambda value: SimpleTransformationWithHaloSource("i.n5/raw", np.negative, value),
        lambda value: MultiTransformationSource(value, np.add),
        lambda value: bp.RunnerConfig(memory_limit=value),
    ],
)
def test_wrong_things_are_errors_of_ours_everywhere(
    here: Path, image: np.ndarray, call: Callable[[Any], Any]
) -> None:
    bp.copy(image, "i.n5/raw").close()
    refused = 0
    for value in NO_GOOD:
        try:
            call(value)
        except BioimagePyError:
            refused += 1
    assert refused >= len(NO_GOOD) // 2


def test_an_option_that_a_format_does_not_have_is_named(here: Path, image: np.ndarray) -> None:
    tifffile.imwrite("a.tif", image)
    with pytest.raises(ValueError, match=r"has no option serie\. .*it takes .*series"):
        bp.open_source("a.tif", serie=1)


# -------------------------------------------------------------------------------------- things that change meanwhile


@pytest.mark.parametrize("name", ["deflate.tif", "plain.tif", "i.npy", "i.mrc", "i.nii", "i.nii.gz", "i.h5"])
def test_a_file_cut_while_it_is_open_is_an_error(here: Path, image: np.ndarray, name: str) -> None:
    write_inputs(here, image)
    with bp.open_source(name) as source:
        os.truncate(name, Path(name).stat().st_size // 2)
        with pytest.raises((RunnerError, OSError)) as caught:
            bp.copy(source, num_workers=2)
    assert name in str(caught.value)


@pytest.mark.parametrize("kind", ["sharded", "hdf5", "npy"])
def test_of_two_copies_at_once_one_wins(here: Path, kind: str) -> None:
    path, key, options = OUTPUTS[kind]
    if kind == "sharded":
        options = {"chunks": (32, 32, 32), "shards": (64, 64, 64)}
    code = (
        "import sys, numpy as np, bioimage_py as bp\n"
        "image = np.arange(2 * 64 * 128 * 128, dtype='uint32').reshape(128, 128, 128)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"try: bp.copy(image, {path!r}, num_workers=2, **{options!r}).close()\n"
        "except bp.BioimagePyError as error: print(type(error).__name__)\n"
        "else: print('done')\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    told = [racer.communicate("go\n", timeout=60)[0].strip() for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 0]
    assert told.count("done") == 1, told
    expected = np.arange(2 * 64 * 128 * 128, dtype="uint32").reshape(128, 128, 128)
    np.testing.assert_array_equal(by_other_libraries(stored_at(path), key), expected)


def test_what_is_read_while_it_is_replaced_is_not_a_mixture(here: Path, image: np.ndarray) -> None:
    other = image // 2
    for name in ("a.zarr", "a.h5", "a.npy"):
        bp.copy(image, name).close()
        with bp.open_source(name) as reader:
            assert reader[0, 0, 0] == image[0, 0, 0]
            bp.copy(other, name, overwrite=True).close()
            try:
                seen = reader[...]
            except OSError:
                continue
            assert np.array_equal(seen, image) or np.array_equal(seen, other), name


# -------------------------------------------------------------------------------------------------- the command line


def in_a_terminal(*words: str) -> tuple[int, str]:
    """Run the command in a terminal of its own; return its exit code and all that was shown."""
    master, slave = pty.openpty()
    process = subprocess.Popen([str(COMMAND), *words], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 2**16)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    return process.wait(timeout=30), shown.decode()


def test_a_terminal_shows_progress_and_is_left_tidy(here: Path) -> None:
    tifffile.imwrite("a.tif", textured((64, 256, 256), "uint16"), compression="zlib")
    code, shown = in_a_terminal("copy", "a.tif", "a.zarr", "--memory-limit", "4MB", "--verify")
    assert code == 0, shown
    assert "copying" in shown
    assert " blocks" in shown
    *_, copied, _, times, verified = (line.rpartition("\r")[2] for line in shown.strip().split("\r\n"))
    assert copied.startswith("copied 64 × 256 × 256 uint16 from a.tif to a.zarr (zarr v3): 8 MiB")
    assert times.startswith("time of workers: reading ")
    assert verified == "verified: equal: all 4,194,304 voxels"


def test_a_command_needs_no_writable_folder_for_temporary_files(here: Path, image: np.ndarray) -> None:
    tifffile.imwrite("a.tif", image, compression="zlib")
    environment = {**os.environ, "TMPDIR": "/nonexistent", "HOME": "/nonexistent"}
    done = subprocess.run(
        [COMMAND, "copy", "a.tif", "a.zarr", "--verify", "--quiet"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_copy_that_exists_says_both_ways_on_once(here: Path, image: np.ndarray) -> None:
    np.save("a.npy", image)
    bp.copy(image, "a.zarr").close()
    done = subprocess.run([COMMAND, "copy", "a.npy", "a.zarr"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("--overwrite") == done.stderr.count("--into-existing") == 1
    with pytest.raises(OutputExistsError):
        bp.copy("a.npy", "a.zarr")


def test_a_slip_of_the_pen_is_guessed(here: Path) -> None:
    done = subprocess.run(
        [COMMAND, "copy", "a", "b", "--worker", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "did you mean --workers?" in done.stderr


@pytest.mark.parametrize("name", ["o.zarr", "o.n5/raw", "o.precomputed", "o.h5", "o.npy"])
def test_paths_through_the_folder_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "sub" / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    monkeypatch.chdir(tmp_path / "sub")
    image = np.arange(24, dtype="uint8").reshape(2, 3, 4)
    for above in ("..", "link/.."):
        bp.copy(image, f"{above}/{name}").close()
        assert bp.verify(image, f"{above}/{name}").equal
    assert (tmp_path / name.split("/", maxsplit=1)[0]).exists()
    assert (tmp_path / "elsewhere" / name.split("/", maxsplit=1)[0]).exists()


@pytest.mark.parametrize("name", ["o.zarr", "o.n5/raw", "o.precomputed"])
def test_a_store_that_goes_away_is_no_store_of_zeros(tmp_path: Path, name: str) -> None:
    bp.copy(np.ones((4, 4, 4), "uint8"), tmp_path / name)
    source = bp.open_source(tmp_path / name)
    shutil.rmtree(tmp_path / name)
    for workers in (1, 2):
        with pytest.raises(bp.errors.StorageError, match="no longer exists"):
            bp.copy(source, num_workers=workers)
    with pytest.raises(bp.errors.StorageError, match="no longer exists"):
        bp.verify(source, np.zeros((4, 4, 4), "uint8"))

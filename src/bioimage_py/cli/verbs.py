"""What the help says: about the command, its verbs, and how things are named and sized."""

from __future__ import annotations

from typing import NamedTuple

from bioimage_py.cli.failure import EXIT_CODES

PATHS = """\
how to name an image:
  stack.tif             a file: TIFF, MRC, NIfTI, HDF5, NumPy .npy, PNG or JPEG slices
  slices/               a folder of slices, in natural order (2 before 10)
  data.zarr, data.n5    a chunked store; neuroglancer precomputed folders too
  data.n5/raw           an array inside a container; also file.h5:/volumes/raw, or --key raw
  s3://bucket/a.zarr    a URL: s3, gs, http, https
  Names that begin with a dash go after '--'."""

SIZES = """\
sizes are per axis, slowest axis first (z,y,x): 64,64,64 or 64x64x64; a single 64 means every axis."""

_RUNS = """\
how to name a run:
  by its run folder, bioimage-run-DATE-TIME-..., as 'bioimage-py runs' lists it"""

EXITS = "exit codes:\n" + "\n".join(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items())

ABOUT = """\
Copy image volumes of any size from where they are into where they should be:
a TIFF stack into Zarr, N5 into sharded Zarr, HDF5 into N5 ... block by block,
with bounded memory, and checked voxel by voxel if you like. On this computer,
or on a cluster: there a run can be watched, cancelled and finished later."""

EXAMPLES = """\
a first walk:
  bioimage-py info stack.tif                       what is in this file?
  bioimage-py preview stack.tif -o stack.png       what does it look like?
  bioimage-py plan stack.tif stack.zarr            what would a copy do? (writes nothing)
  bioimage-py copy stack.tif stack.zarr            do it
  bioimage-py pyramid stack.tif image.ome.zarr     with smaller levels, for viewers
  bioimage-py verify stack.tif stack.zarr          is every voxel the same?
  bioimage-py bench stack.tif                      how fast can this computer copy it?
long copies, and copies on a cluster:
  bioimage-py copy big.zarr new.zarr --job-type slurm --workers 50
  bioimage-py runs                                 which runs are there, and how far?
  bioimage-py status RUN --watch                   look on
  bioimage-py cancel RUN                           stop it; what is done stays
  bioimage-py resume RUN                           do what is missing, and nothing twice
  bioimage-py config show                          what is asked of Slurm by default?
'bioimage-py VERB --help' tells more about each."""


class Verb(NamedTuple):
    """What the help says about a verb."""

    summary: str
    about: str
    examples: str
    notes: tuple[str, ...] = ()


VERBS = {
    "info": Verb(
        "what is in this file, folder or store?",
        """\
Show what is known about an image without reading its voxels: shape, data type, axes, voxel size,
chunks, compression, size. A container that holds several arrays is listed, and so are the images of an OME-Zarr or a
plate, with their levels and labels.""",
        """\
examples:
  bioimage-py info stack.tif
  bioimage-py info data.n5
  bioimage-py info data.n5 --key raw --json
  bioimage-py info stack.tif --picture stack.png""",
        (PATHS,),
    ),
    "preview": Verb(
        "a picture of an image of any size",
        """\
Make a picture of an image: three slices of a volume that meet in a point, or a projection, or a plane as
it is, with a scale bar, contrast by percentiles, and labels in colours of their own. Of an image with
levels (OME-Zarr and others) only the coarsest that is good enough is read. SOURCE is never changed.""",
        """\
examples:
  bioimage-py preview stack.tif -o stack.png
  bioimage-py preview big.ome.zarr -o big.png --position 120,4000,4000
  bioimage-py preview stack.tif -o stack.jpg --projection max --contrast 100,4000
  bioimage-py preview labels.zarr -o labels.png --kind labels --size 1024""",
        (PATHS,),
    ),
    "view": Verb(
        "look at images in the browser",
        """\
Serve images on this computer for Neuroglancer, and open the browser: slices in three directions and 3-D,
with scale, channels, colours and contrast. Labels are shown over the image; those in an OME-Zarr come
along. Nothing is written, and only what is looked at is read. Ctrl-C ends it.""",
        """\
examples:
  bioimage-py view image.ome.zarr
  bioimage-py view stack.tif --labels cells.zarr
  bioimage-py view data.n5/raw --voxel-size 40,4,4 --units nm --axes zyx
  bioimage-py view big.zarr --port 8080 --no-browser
On a server: give --port 8080 --no-browser there, 'ssh -L 8080:127.0.0.1:8080 server' here, and open the
address that is printed.""",
        (PATHS,),
    ),
    "plan": Verb(
        "what would a copy do? writes nothing",
        """\
Show what 'copy' would do with the same options, without writing anything: blocks, bytes, number of
files, memory, and how often the input is read.""",
        """\
example:
  bioimage-py plan stack.tif stack.zarr --chunks 64,64,64""",
        (SIZES, PATHS),
    ),
    "copy": Verb(
        "copy an image into another store or format",
        """\
Copy INPUT to OUTPUT. The ending of OUTPUT chooses the format: .zarr, .n5, .h5, .npy, .precomputed.
Voxel size, units, axes and attributes go with it. An OME-Zarr, be it an image, a plate or a well, is copied whole
into a .zarr: all images, levels and labels. An output that is there already is not touched
unless --overwrite or --into-existing says so. INPUT is never changed.""",
        """\
examples:
  bioimage-py copy stack.tif stack.zarr
  bioimage-py copy slices/ --pattern '*.tif' volume.zarr --workers 8 --verify
  bioimage-py copy data.n5 --key raw out.zarr --chunks 64,64,64 --shards 512,512,512 --codec zstd:3
  bioimage-py copy scan.h5:/volumes/raw out.zarr --dtype uint8 --casting check
  bioimage-py copy big.zarr new.zarr --resumable
  bioimage-py copy big.zarr new.zarr --job-type slurm --workers 50 --partition cpu --mem 4G --time 1:00:00
If some blocks fail, or you press Ctrl-C, the message holds the command that copies only what is missing.""",
        (SIZES, PATHS),
    ),
    "pyramid": Verb(
        "write an image with smaller and smaller levels of it",
        """\
Write INPUT as an OME-Zarr image (OUTPUT ends in .ome.zarr) with all its levels, reading INPUT once. Each
level is half as large as the one before, along the axes whose voxels are shortest, until the volume
fits one chunk. Viewers then show the level that fits their window. Without OUTPUT the levels are added to
INPUT, an OME-Zarr; its full-size level stays as it is.""",
        """\
examples:
  bioimage-py pyramid stack.tif image.ome.zarr
  bioimage-py pyramid stack.tif image.ome.zarr --dry-run
  bioimage-py pyramid image.ome.zarr
  bioimage-py pyramid labels.h5:/labels image.ome.zarr/labels/cells --method mode
  bioimage-py pyramid big.zarr new.ome.zarr --scale-factors 1x2x2,2x2x2 --job-type slurm --workers 50""",
        (SIZES, PATHS),
    ),
    "verify": Verb(
        "are two images equal, voxel by voxel?",
        """\
Compare two images voxel by voxel, whatever their formats and chunks. Says how many voxels differ and
where the first one is. Ends with exit code 0 if all are equal and 1 if any differs.""",
        """\
examples:
  bioimage-py verify stack.tif stack.zarr
  bioimage-py verify old.n5 new.zarr --key-a raw && echo 'all voxels are equal'""",
        (PATHS,),
    ),
    "bench": Verb(
        "how fast can it be copied here, and what is the bottleneck?",
        """\
Measure on a sample of SOURCE how fast its stored bytes are read, its voxels decoded, encoded and written,
by one worker and by all. Names the slowest stage, and says what would help. It takes about ten seconds.
What it writes into the folder of --output it removes. SOURCE is never changed.
Read rates are those of the disk only where the system forgets what it holds in memory when it is asked
to: most local disks. Network disks and other people's caches may do otherwise.""",
        """\
examples:
  bioimage-py bench stack.tif
  bioimage-py bench data.n5 --key raw --output /scratch/me --workers 16
  bioimage-py bench stack.tif --codec zstd:1 --chunks 64 --sample 1GiB""",
        (SIZES, PATHS),
    ),
    "runs": Verb(
        "which runs are there, and how far are they?",
        """\
List the run folders in FOLDER: what became of each, how many of its blocks are done. A copy keeps a
run folder while it runs if it is resumable or runs in other processes; it is removed when all is
done, and stays where something is missing. Without FOLDER: the working directory, and the folder
that is configured for runs ('bioimage-py config show').""",
        """\
examples:
  bioimage-py runs
  bioimage-py runs /scratch/me --json""",
        (_RUNS,),
    ),
    "status": Verb(
        "how far is a run?",
        """\
Show how far a run is: blocks done, speed, time left, what its tasks do, and its first errors. It only
looks: the run goes on undisturbed. With --watch it looks until the run ends; Ctrl-C ends the looking,
not the run. With --watch the exit code is that of the run: 0 if all is done, 3 if blocks are missing.""",
        """\
examples:
  bioimage-py status bioimage-run-20260131-170000-a1b2c3
  bioimage-py status bioimage-run-20260131-170000-a1b2c3 --watch""",
        (_RUNS,),
    ),
    "resume": Verb(
        "finish a run; nothing is done twice",
        """\
Do what is missing of a run that failed, was stopped, or died with its computer, where and how it ran
before. Blocks that are done are not touched. A run on Slurm that nobody waits for any more is waited
for again. It is refused if the images are not stored any more as they were.""",
        """\
examples:
  bioimage-py resume bioimage-run-20260131-170000-a1b2c3
  bioimage-py resume bioimage-run-20260131-170000-a1b2c3 --workers 8""",
        (_RUNS,),
    ),
    "cancel": Verb(
        "stop a run; what is done stays",
        """\
Stop a run: its processes on this computer, or its jobs on the cluster. Blocks that are done stay
written, and 'bioimage-py resume' does the rest.""",
        """\
example:
  bioimage-py cancel bioimage-run-20260131-170000-a1b2c3""",
        (_RUNS,),
    ),
    "config": Verb(
        "show or set what is asked of Slurm by default",
        """\
Show the settings for runs on Slurm, and where they come from, or set them for all coming runs. They
are kept in a file; options of 'copy', such as --partition, go before them.""",
        """\
examples:
  bioimage-py config show
  bioimage-py config set partition cpu time 2:00:00 mem 4G
  bioimage-py config set --unset partition""",
    ),
}

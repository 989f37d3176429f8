"""The texts of the help: what the command and its verbs do, with examples, and how to name images, sizes and runs."""

from __future__ import annotations

from typing import NamedTuple

from bioimage_py.cli.failure import EXIT_CODES

_PATHS = """\
how to name an image:
  stack.tif             a file: TIFF, MRC, NIfTI, HDF5, NumPy .npy, PNG or JPEG
  slices/               a folder of slices, in natural order (2 before 10)
  data.zarr, data.n5    a chunked store; also folders in neuroglancer's precomputed format
  data.n5/raw           an array in a container; also file.h5:/volumes/raw, or --key raw
  s3://bucket/a.zarr    a URL: s3, az, gs, http, https
  Put '--' before names that begin with a dash."""

_SIZES = """\
sizes are given per axis, slowest axis first (z,y,x): 64,64,64 or 64x64x64; a single 64 applies to every axis."""

_RUNS = """\
how to name a run:
  by its run folder, bioimage-run-DATE-TIME-..., as listed by 'bioimage-py runs'"""

EXITS = "exit codes:\n" + "\n".join(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items())

ABOUT = """\
Copy image volumes of any size between formats: a TIFF stack to Zarr, N5 to
sharded Zarr, HDF5 to N5 ... block by block, within a memory limit, and compare
the copy with the original voxel by voxel if you like. Copies run on this
computer or on a cluster, where they can be monitored, cancelled and resumed."""

EXAMPLES = f"""\
getting started:
  bioimage-py info stack.tif                       what is in this file?
  bioimage-py preview stack.tif -o stack.png       what does it look like?
  bioimage-py plan stack.tif stack.zarr            what would a copy do? (writes nothing)
  bioimage-py copy stack.tif stack.zarr            copy it
  bioimage-py copy '*.tif' converted/ --to zarr    copy many, each into an output of its own
  bioimage-py pyramid stack.tif image.ome.zarr     copy it with downsampled levels, for viewers
  bioimage-py downsample stack.tif small.zarr --scale-factor 2
  bioimage-py view image.ome.zarr                  look at it in the browser
  bioimage-py verify stack.tif stack.zarr          are all voxels equal?
  bioimage-py check image.ome.zarr                 is anything in it corrupt, or missing?
  bioimage-py repair image.ome.zarr stack.tif      write what is, again
  bioimage-py digest stack.zarr                    a hash of its voxels, in any format
  bioimage-py bench stack.tif                      how fast can this computer copy it?
long copies, and copies on a cluster:
  bioimage-py copy big.zarr new.zarr --job-type slurm --workers 50
  bioimage-py runs                                 which runs are there, and how far are they?
  bioimage-py status RUN --watch                   monitor a run
  bioimage-py page RUN -o run.html                 make a page about it
  bioimage-py cancel RUN                           stop it; finished blocks stay
  bioimage-py resume RUN                           copy the missing blocks, nothing twice
  bioimage-py worker RUN --join                    help with a run, from any computer that sees it
  bioimage-py config show                          the default settings
  bioimage-py completion bash                      complete all of this with Tab
'bioimage-py VERB --help' explains each of them.

{_PATHS}

{EXITS}"""


class Verb(NamedTuple):
    """What the help says about a verb."""

    summary: str
    about: str
    examples: str
    notes: tuple[str, ...] = (_PATHS,)

    @property
    def epilog(self) -> str:
        title = "examples" if "\n  bioimage-py" in self.examples else "example"
        return "\n\n".join((f"{title}:\n{self.examples}", *self.notes))


VERBS = {
    "info": Verb(
        "what is in a file, folder or store",
        """\
Show the metadata of an image without reading its voxels: shape, data type, axes, voxel size, chunks,
compression, size on disk. For a container, list its arrays; for an OME-Zarr or a plate, list its images
with their levels and labels.""",
        """\
  bioimage-py info stack.tif
  bioimage-py info data.n5
  bioimage-py info data.n5 --key raw --json
  bioimage-py info stack.tif --picture stack.png""",
    ),
    "preview": Verb(
        "make a picture of an image of any size",
        """\
Make a picture of an image: three orthogonal slices that meet in a point, or a projection, or the plane of
a 2-D image, with a scale bar, percentile contrast, and a color per label. If an image has levels (as
OME-Zarr has), only the coarsest one with enough detail is read. SOURCE is never changed.""",
        """\
  bioimage-py preview stack.tif -o stack.png
  bioimage-py preview big.ome.zarr -o big.png --position 120,4000,4000
  bioimage-py preview stack.tif -o stack.jpg --projection max --contrast 100,4000
  bioimage-py preview labels.zarr -o labels.png --kind labels --size 1024""",
    ),
    "view": Verb(
        "look at images in the browser",
        """\
Serve images from this computer to Neuroglancer and open the browser: orthogonal slices and 3-D, with
scale, channels, colors and contrast. Labels are shown over the image, including those stored in an
OME-Zarr. Nothing is written, and only what is displayed is read. Press Ctrl-C to end.""",
        """\
  bioimage-py view image.ome.zarr
  bioimage-py view stack.tif --labels cells.zarr
  bioimage-py view data.n5/raw --voxel-size 40,4,4 --units nm --axes zyx
  bioimage-py view big.zarr --port 8080 --no-browser
On a server: run it there with --port 8080 --no-browser, run 'ssh -L 8080:127.0.0.1:8080 server' here, and
open the address that it prints.""",
    ),
    "plan": Verb(
        "show what a copy would do; writes nothing",
        """\
Show what 'copy' would do with the same options, without writing anything: blocks, bytes, number of
files, memory, and how often the input is read.""",
        """\
  bioimage-py plan stack.tif stack.zarr --chunks 64,64,64""",
        (_SIZES, _PATHS),
    ),
    "copy": Verb(
        "copy an image to another store or format",
        """\
Copy INPUT to OUTPUT. The extension of OUTPUT chooses the format: .zarr, .n5, .h5, .npy, .precomputed.
Voxel size, units, axes and attributes are copied too. An OME-Zarr (an image, a plate or a well) is
copied to .zarr as a whole: all images, levels and labels. An existing output is not touched unless
you give --overwrite or --into-existing. INPUT is never changed.""",
        """\
  bioimage-py copy stack.tif stack.zarr
  bioimage-py copy slices/ --pattern '*.tif' volume.zarr --workers 8 --verify
  bioimage-py copy data.n5 --key raw out.zarr --chunks 64,64,64 --shards 512,512,512 --codec zstd:3
  bioimage-py copy scan.h5:/volumes/raw out.zarr --dtype uint8 --casting check
  bioimage-py copy movie.czi part.zarr --crop 10:20,:,-512: --channel DAPI --time-points 0:10
  bioimage-py copy scan.tif bytes.zarr --scale-to uint8 --range 1%,99%
  bioimage-py copy '*.czi' more.lif converted/ --to ome-zarr
  bioimage-py copy big.zarr new.zarr --resumable
  bioimage-py copy big.zarr new.zarr --job-type slurm --workers 50 --partition cpu --mem 4G --time 1:00:00
If blocks fail, or you press Ctrl-C, the message shows the command that copies the missing blocks only.""",
        (_SIZES, _PATHS),
    ),
    "downsample": Verb(
        "write an image with fewer voxels",
        """\
Write INPUT with fewer voxels to OUTPUT, block by block: each voxel is the mean of a window of voxels, or its most frequent
label, as --method says; with --order it is interpolated. Voxel size and origin are those of the larger
voxels. To make an OME-Zarr with all levels, use 'pyramid'.""",
        """\
  bioimage-py downsample stack.tif small.zarr --scale-factor 2
  bioimage-py downsample labels.zarr small.zarr --scale-factor 1,2,2 --method mode
  bioimage-py downsample stack.tif small.tif --scale-factor 4 --order 1 --anti-aliasing""",
        (_SIZES, _PATHS),
    ),
    "pyramid": Verb(
        "write an image with downsampled levels",
        """\
Write INPUT as an OME-Zarr image (OUTPUT ends in .ome.zarr) with all its levels, reading INPUT once. Each
level halves the one before along the axes with the shortest voxels, until the volume fits one chunk, so
that viewers can load the level that fits their window. Without OUTPUT the levels are added to INPUT,
an OME-Zarr; its full-size level is not changed.""",
        """\
  bioimage-py pyramid stack.tif image.ome.zarr
  bioimage-py pyramid stack.tif image.ome.zarr --dry-run
  bioimage-py pyramid image.ome.zarr
  bioimage-py pyramid labels.h5:/labels image.ome.zarr/labels/cells --method mode
  bioimage-py pyramid big.zarr new.ome.zarr --scale-factors 1x2x2,2x2x2 --job-type slurm --workers 50""",
        (_SIZES, _PATHS),
    ),
    "verify": Verb(
        "compare two images, or one with its digest",
        """\
Compare two images voxel by voxel, whatever their formats and chunks. Reports how many voxels differ and
where the first one is. Where both are on local disks and encode their chunks alike, chunks whose stored bytes
are equal are not decoded, unless --decode is given. Without B, the voxels of A are compared with the digest
that 'copy --digest' has left beside them. The exit code is 0 if all voxels are equal and 1 if any differs.""",
        """\
  bioimage-py verify stack.tif stack.zarr
  bioimage-py verify stack.zarr
  bioimage-py verify old.n5 new.zarr --key-a raw && echo 'all voxels are equal'""",
    ),
    "check": Verb(
        "find corrupt and missing chunks, and metadata that do not fit",
        """\
Decode every chunk that is stored below PATH and hold the metadata against the arrays: all images, levels
and labels of an OME-Zarr, a plate or a container, also behind a URL. Tells apart what is corrupt, missing,
never written, unfinished, and files that belong to nothing. Nothing is written. The exit code is 0 if
nothing is wrong and 1 if anything is.""",
        """\
  bioimage-py check image.ome.zarr
  bioimage-py check plate.ome.zarr --sample 1% --json
  bioimage-py check data.n5/raw && echo 'all chunks can be decoded'""",
    ),
    "repair": Verb(
        "write damaged chunks again, from another copy",
        """\
Check PATH, and write the chunks and shards that are corrupt or missing again with the voxels of SOURCE, which
is only read: what PATH was copied from, or another copy of it. All other chunks stay untouched. SOURCE is
refused if it has another shape or data type, or other voxels where PATH is right. Then PATH is checked
again; the exit code is 0 if nothing is wrong now and 1 if anything is.""",
        """\
  bioimage-py repair image.ome.zarr stack.tif
  bioimage-py repair image.ome.zarr s3://backup/image.ome.zarr
  bioimage-py repair data.n5/raw scan.h5 --key /volumes/raw""",
    ),
    "digest": Verb(
        "print a hash of the voxels, whatever their format",
        """\
Print a hash of the shape, the data type and all voxels of each image, and which array it is of. It is the
same for every format, chunk shape, compression and byte order, so that an image can be proved
when its source is gone. Of an OME-Zarr image, the full-size array. docs/digest.md is the specification.""",
        """\
  bioimage-py digest stack.tif
  bioimage-py digest stack.tif stack.zarr data.n5/raw
  bioimage-py digest data.n5 --key raw --json""",
    ),
    "bench": Verb(
        "measure how fast this computer copies, and what limits it",
        """\
Measure with a sample of SOURCE how fast stored bytes are read and voxels are decoded, encoded and
written, by one worker and by all. Names the slowest stage and says what would help. It takes about ten
seconds. The files that it writes into the folder of --output are removed. SOURCE is never changed.
Read rates are those of the disk only where the system drops its cache of the files when asked to, as most
local disks allow; network file systems may not.""",
        """\
  bioimage-py bench stack.tif
  bioimage-py bench data.n5 --key raw --output /scratch/me --workers 16
  bioimage-py bench stack.tif --codec zstd:1 --chunks 64 --sample 1GiB""",
        (_SIZES, _PATHS),
    ),
    "runs": Verb(
        "list runs and how far they are",
        """\
List the run folders in FOLDER and the folders below it, with the state of each and how many of its blocks are done. A copy has a
run folder if it is resumable or runs in other processes; the folder is removed when all blocks are done,
and kept if any is missing. Without FOLDER: the working directory, and the folder that is configured for
runs ('bioimage-py config show').""",
        """\
  bioimage-py runs
  bioimage-py runs /scratch/me --json""",
        (_RUNS,),
    ),
    "status": Verb(
        "show how far a run is",
        """\
Show how far a run is: finished blocks, speed, time left, state of its tasks, first errors. The run is not
disturbed. With --watch the status is shown until the run ends, with --serve a page about it in the browser:
blocks in their place, speed over time, tasks, errors. Ctrl-C stops watching, not the run. The exit code is
then that of the run: 0 if all blocks are done, 3 if any is missing.""",
        """\
  bioimage-py status bioimage-run-20260131-170000-a1b2c3
  bioimage-py status bioimage-run-20260131-170000-a1b2c3 --watch
  bioimage-py status bioimage-run-20260131-170000-a1b2c3 --serve --port 8080 --no-browser
On a server: run the last one there, run 'ssh -L 8080:127.0.0.1:8080 server' here, and open the address that
it prints.""",
        (_RUNS,),
    ),
    "page": Verb(
        "make a page about a run",
        """\
Make one HTML file about a run: its blocks in their place, speed over time, what its workers spent their time
with, tasks, first errors, the plan. The file loads nothing from elsewhere, and can be sent to others. The run is not
disturbed. The folder of a run is removed when all blocks are done: '--page FILE' of copy, pyramid and resume leaves a page then.""",
        """\
  bioimage-py page bioimage-run-20260131-170000-a1b2c3 -o run.html""",
        (_RUNS,),
    ),
    "resume": Verb(
        "finish a run; no block is done twice",
        """\
Finish a run that failed, was stopped, or died with its computer, on the backend it was started with.
Blocks that are done are not touched. If jobs of a Slurm run are still active, wait for them. A run
is refused if its images were changed or moved since.""",
        """\
  bioimage-py resume bioimage-run-20260131-170000-a1b2c3
  bioimage-py resume bioimage-run-20260131-170000-a1b2c3 --workers 8 --page run.html""",
        (_RUNS,),
    ),
    "cancel": Verb(
        "stop a run; finished blocks stay",
        """\
Stop a run: its processes on this computer, or its jobs on the cluster. Finished blocks stay written,
and 'bioimage-py resume' does the rest.""",
        """\
  bioimage-py cancel bioimage-run-20260131-170000-a1b2c3""",
        (_RUNS,),
    ),
    "worker": Verb(
        "join a run as a worker",
        """\
Copy blocks of a run that 'copy' or 'pyramid' has begun with --job-type external, subprocess, slurm or dask. Start
as many workers as you like, by hand or with any scheduler, on machines that see the run folder and the
images; they share the blocks. A worker may end at any time: others do what it leaves. SIGTERM and the signals
that schedulers send before the end of a job's time stop it within seconds; what is done stays. The number of
threads is that of the run (--threads-per-worker). The exit code is 0 when the run has ended, however it did.""",
        """\
  bioimage-py copy big.zarr new.zarr --job-type external --threads-per-worker 4
  bioimage-py worker bioimage-run-20260131-170000-a1b2c3 --join
  bioimage-py worker /scratch/me/runs --join --wait 10min
Without --join a worker leaves as soon as nothing is left for it in the present round.""",
        (_RUNS,),
    ),
    "config": Verb(
        "show, get or set the defaults for Slurm, and of bars",
        """\
Show the settings for runs on Slurm and where they come from, or set them for all future runs. They are
kept in a file; options of 'copy', such as --partition, override them. 'progress', yes or no, is whether
notebooks and terminals show a bar that nobody asked for; BIOIMAGE_PY_PROGRESS=0 or 1 overrides it.""",
        """\
  bioimage-py config show
  bioimage-py config get partition
  bioimage-py config set partition cpu time 2:00:00 mem 4G
  bioimage-py config set --unset partition
  bioimage-py config set progress no""",
        (),
    ),
    "completion": Verb(
        "print a script that lets a shell complete this command",
        """\
Print a script with which bash, zsh or fish complete verbs, options, their values and names of files when
you press Tab. Run the command for your shell below once, and open a new terminal.""",
        """\
  bioimage-py completion bash >> ~/.bash_completion
  bioimage-py completion zsh > "${fpath[1]}/_bioimage_py"
  bioimage-py completion fish > ~/.config/fish/completions/bioimage-py.fish""",
        (),
    ),
}

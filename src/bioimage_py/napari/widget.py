"""The widget in napari that copies an image, or makes an OME-Zarr with levels of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from napari.layers import Layer
from qtpy.QtCore import QTimer
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QWidget,
)

from bioimage_py.copy import copy, plan
from bioimage_py.errors import BioimagePyError, Call, InvalidArgumentError, RunInterrupted
from bioimage_py.napari.layers import GIVEN, open_layers
from bioimage_py.planning import format_bytes
from bioimage_py.pyramid import pyramid, pyramid_plan
from bioimage_py.runner import Progress
from bioimage_py.sources import Source, as_source, with_metadata

_MILLISECONDS = 100
"""Between two looks at the thread that copies."""


class CopyWidget(QWidget):  # type: ignore[misc] # the library has no types
    """Input, output, levels; the plan; a copy with its progress, which can be cancelled; and the result as layers."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._thread = ThreadPoolExecutor(1, "bioimage-py")
        self._running: tuple[Future[Any], Callable[[Any], None]] | None = None
        self._progress: Progress | None = None
        self._stop = threading.Event()
        self.input, self.output = QLineEdit(), QLineEdit()
        self.input.setPlaceholderText("path or URL; empty: the active layer")
        self.output.setPlaceholderText("path or URL, such as cells.ome.zarr")
        self.levels = QCheckBox("with levels, as OME-Zarr")
        self.levels.setChecked(True)
        self.overwrite = QCheckBox("replace what exists")
        self.plan, self.copy, self.cancel = map(QPushButton, ("Plan", "Copy", "Cancel"))
        self.bar = QProgressBar()
        self.text = QPlainTextEdit(readOnly=True)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self._lay_out()
        self.plan.clicked.connect(lambda: self._begin(pyramid_plan if self._has_levels else plan, self._tell))
        self.copy.clicked.connect(lambda: self._begin(pyramid if self._has_levels else copy, self._opened))
        self.cancel.clicked.connect(self._cancelled)
        self._timer = QTimer(self, interval=_MILLISECONDS)
        self._timer.timeout.connect(self._look)
        # A copy must not keep napari from closing.
        QApplication.instance().aboutToQuit.connect(self._stop.set)
        self.destroyed.connect(self._stop.set)
        self._set_running(None)

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        pick_input = partial(QFileDialog.getOpenFileName, self, "Input")
        pick_output = partial(QFileDialog.getSaveFileName, self, "Output")
        for name, line, pick in (("input", self.input, pick_input), ("output", self.output, pick_output)):
            form.addRow(name, _row(line, _picking(line, pick)))
        form.addRow("", self.levels)
        form.addRow("", self.overwrite)
        form.addRow(_row(self.plan, self.copy, self.cancel))
        form.addRow(self.bar)
        form.addRow(self.text)

    @property
    def _has_levels(self) -> bool:
        return bool(self.levels.isChecked())

    def _begin(self, verb: Callable[..., Any], then: Callable[[Any], None]) -> None:
        """Call a verb on the other thread, and a function in this one with what it returns."""
        try:
            image, output = self._image(), self.output.text().strip()
            if not output:
                raise InvalidArgumentError("give the path of the output, such as cells.ome.zarr")
        except BioimagePyError as error:
            self._tell(_sentence(error))
            return
        options = {
            "overwrite": bool(self.overwrite.isChecked()),
            "num_workers": None,  # all cores
            "progress": self._report,
        }
        self._stop.clear()
        self._progress = None
        self._tell("")
        self._set_running((self._thread.submit(_to_its_end, verb, image, output, **options), then))

    def _image(self) -> Any:
        """Return the input: a path, or what the active layer was opened from."""
        if path := self.input.text().strip():
            return path
        layer = self._viewer.layers.selection.active
        if layer is None:
            raise InvalidArgumentError("give the path of the input, or select one layer")
        return layer.metadata[GIVEN] if GIVEN in layer.metadata else _source_of(layer)

    def _report(self, progress: Progress) -> None:
        """Keep the progress for the other thread; end the run there, as Ctrl-C does, where that was asked for."""
        self._progress = progress
        if self._stop.is_set() and progress.account is None:
            raise KeyboardInterrupt

    def _look(self) -> None:
        if self._progress is not None:
            done = self._progress
            self.bar.setRange(0, done.blocks_total)
            self.bar.setValue(done.blocks_done)
            written, speed = (
                format_bytes(n) for n in (done.bytes_done, done.bytes_done / max(done.seconds, 1e-9))
            )
            self.bar.setFormat(f"%v of %m blocks · {written} · {speed}/s")
        if self._running is None or not self._running[0].done():
            return
        future, then = self._running
        self._set_running(None)
        error = future.exception()
        if error is None:
            then(future.result())
        else:
            self._tell(_sentence(error))

    def _set_running(self, running: tuple[Future[Any], Callable[[Any], None]] | None) -> None:
        self._running = running
        for button in (self.plan, self.copy):
            button.setEnabled(running is None)
        self.cancel.setEnabled(running is not None)
        self.bar.reset()
        self.bar.setFormat("")
        # A bar without an end moves until the first progress.
        self.bar.setRange(0, 0 if running else 1)
        self._timer.start() if running else self._timer.stop()

    def _cancelled(self) -> None:
        self._stop.set()
        self._tell("cancelling: blocks that are being written are finished")

    def _tell(self, what: Any) -> None:
        self.text.setPlainText(str(what))

    def _opened(self, made: Any) -> None:
        """Open what was made as layers."""
        for one in made if isinstance(made, list) else [made]:
            if isinstance(one, Source):
                one.close()
        path = self.output.text().strip()
        try:
            for layer in open_layers(path):
                self._viewer.add_layer(Layer.create(*layer))
        except BioimagePyError as error:
            self._tell(f"{path} is written, but cannot be shown: {_sentence(error)}")
        else:
            self._tell(f"{path} is written, and opened.")


def _to_its_end(verb: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a verb; if it is cancelled, wait for the blocks in hand, which must not be written into what comes next."""
    try:
        return verb(*arguments, **options)
    except KeyboardInterrupt:
        for thread in threading.enumerate():
            if thread.name.startswith("bioimage-worker-"):
                thread.join()
        raise


def _row(*widgets: Any) -> Any:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row


def _picking(line: Any, pick: Callable[[], tuple[str, str]]) -> Any:
    """Return a button that puts the path that a dialog returns into a line."""

    def picked() -> None:
        path, _ = pick()
        if path:
            line.setText(path)

    button = QPushButton("…", maximumWidth=30)
    button.clicked.connect(picked)
    return button


def _source_of(layer: Any) -> Source:
    """Return the voxels of a layer that something else made, with the layer's scale."""
    source = as_source(layer.data[0] if getattr(layer, "multiscale", False) else layer.data)
    if source.ndim != layer.ndim:  # a picture in colour
        return source
    units = [None if str(unit) == "pixel" else str(unit) for unit in layer.units]
    return with_metadata(
        source, voxel_size=tuple(map(float, layer.scale)), units=units if any(units) else None
    )


def _sentence(error: BaseException) -> str:
    """Return what is told about an error: its message and what to do next."""
    if isinstance(error, RunInterrupted):
        return f"{error.message}. To copy it again, tick 'replace what exists'"
    if isinstance(error, BioimagePyError):
        return error.told(_in_words)
    if isinstance(error, KeyboardInterrupt):
        return "cancelled before anything was written"
    if isinstance(error, (OSError, MemoryError)):
        return str(error) or type(error).__name__
    return f"internal error, please report it: {type(error).__name__}: {error}"


def _in_words(call: Call) -> str:
    """Write the call of a hint for someone who looks at the widget."""
    return "'replace what exists'" if not call.verb and call.options == {"overwrite": True} else str(call)

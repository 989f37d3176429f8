"""A session in napari, as somebody would have it: images are opened, looked at and copied. Run as `session.py FOLDER`; it writes report.json there.

Napari and Qt are imported by functions: doctests are looked for in this module too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import bioimage_py as bp
import bioimage_py.napari
from bioimage_py.geometry import Box
from bioimage_py.sources import Source
from tests.waiting import eventually

PLUGIN = "bioimage-py"


class SlowSource(Source):
    """An image that takes its time."""

    shape = (1024, 512, 512)
    dtype = np.dtype("uint8")
    chunks = (32, 512, 512)
    pause = 0.0

    def _read(self, box: Box) -> np.ndarray:
        time.sleep(self.pause)
        return np.ones(box.shape, "uint8")


def wait_until(condition: Callable[[], Any]) -> None:
    from qtpy.QtWidgets import QApplication

    def holds() -> Any:
        QApplication.processEvents()
        return condition()

    eventually(holds)


def seen(layer: Any) -> dict[str, Any]:
    """What there is of a layer."""
    levels = list(layer.data) if layer.multiscale else [layer.data]
    return {
        "name": layer.name,
        "kind": type(layer).__name__,
        "shapes": [level.shape for level in levels],
        "scale": list(layer.scale),
        "translate": list(layer.translate),
        "units": [str(unit) for unit in layer.units],
        "axes": layer.axis_labels,
        "limits": getattr(layer, "contrast_limits", None),
        "color": layer.colormap.colors[-1].tolist() if type(layer).__name__ == "Image" else None,
        "lazy": all(isinstance(level, Source) for level in levels),
    }


def looked_at(viewer: Any, picture: Path) -> dict[str, Any]:
    """Take a picture of the middle plane; return the layers and what share of the canvas is in which colour."""
    from qtpy.QtWidgets import QApplication

    z = viewer.dims.ndim - 3
    viewer.dims.set_point(z, viewer.dims.range[z].start + 12.0)
    viewer.reset_view()
    for _ in range(10):
        QApplication.processEvents()
    viewer.screenshot(str(picture), canvas_only=False, flash=False)
    labels = [layer for layer in viewer.layers if type(layer).__name__ == "Labels"]
    for layer in labels:
        layer.visible = False
    image = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    for layer in labels:
        layer.visible = True
    with_labels = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    return {
        "layers": [seen(layer) for layer in viewer.layers],
        "lit": float((image.max(axis=-1) > 100).mean()),
        "changed_by_labels": float((abs(with_labels - image).max(axis=-1) > 30).mean()),
    }


def main(folder: Path) -> None:
    import napari
    from qtpy.QtWidgets import QApplication

    report: dict[str, Any] = {}
    viewer = napari.Viewer(show=False)
    viewer.window._qt_window.resize(1400, 900)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Copy and convert")
    for name, paths in json.loads((folder / "images.json").read_text()).items():
        viewer.layers.clear()
        for path in paths:
            viewer.open(path, plugin=PLUGIN)
        report[name] = looked_at(viewer, folder / f"{name}.png")

    def said(button: Any) -> str:
        button.click()
        wait_until(lambda: not widget.cancel.isEnabled())
        return str(widget.text.toPlainText())

    # The active layer is copied, with levels.
    source, copied = str(folder / "cells.ome.tif"), folder / "copied.ome.zarr"
    viewer.layers.clear()
    viewer.open(source, plugin=PLUGIN)
    report["no output"] = said(widget.copy)
    widget.output.setText(str(copied))
    report["plan"] = said(widget.plan)
    report["written by the plan"] = copied.exists()
    report["copied"] = said(widget.copy)
    report["opened"] = [seen(layer) for layer in viewer.layers]
    viewer.layers.selection.active = viewer.layers[0]
    report["exists"] = said(widget.copy)
    # The path of a whole OME-Zarr is copied as it is, labels and all.
    widget.input.setText(str(folder / "cells.ome.zarr"))
    widget.output.setText(str(folder / "whole.ome.zarr"))
    widget.levels.setChecked(False)
    report["whole"] = said(widget.copy)
    # What another program made, at its scale.
    viewer.layers.clear()
    viewer.add_image(np.ones((6, 32, 32), "uint8"), scale=(3, 1, 1), units=("um", "um", "um"))
    widget.input.setText("")
    widget.output.setText(str(folder / "made.zarr"))
    report["made"] = said(widget.copy)
    # A copy is cancelled, and done again.
    viewer.layers.clear()
    viewer.add_layer(napari.layers.Layer.create(*bioimage_py.napari.open_layers(SlowSource())[0]))
    SlowSource.pause = 1.0
    slow = folder / "slow.zarr"
    widget.output.setText(str(slow))
    widget.copy.click()
    wait_until(lambda: widget.bar.value() > 0)
    report["while copying"] = [widget.copy.isEnabled(), widget.cancel.isEnabled(), widget.bar.format()]
    report["cancelled"] = said(widget.cancel)
    report["after cancelling"] = [
        widget.copy.isEnabled(),
        int(np.asarray(bp.open_source(slow)).max(axis=(1, 2)).sum()),
    ]
    viewer.layers.clear()
    widget.input.setText(source)
    widget.overwrite.setChecked(True)
    report["finished"] = said(widget.copy)
    # One that runs ends with napari.
    SlowSource.pause = 0.0
    widget.input.setText("")
    viewer.add_layer(napari.layers.Layer.create(*bioimage_py.napari.open_layers(SlowSource())[0]))
    SlowSource.pause = 1.0
    widget.output.setText(str(folder / "left.zarr"))
    widget.copy.click()
    wait_until(lambda: widget.bar.value() > 0)
    viewer.close()
    QApplication.instance().aboutToQuit.emit()
    (folder / "report.json").write_text(json.dumps(report, default=list))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""`saccade radar`: from a scan to a sharp image, the list of its sub-commands."""

import cyclopts

from saccade.cli import (
    radar_dataset,
    radar_focus,
    radar_image,
    radar_import,
    radar_sharpen,
    radar_simulate,
    radar_train,
)

# Their files import nothing heavy until they are called, and only what is imported shows its sentence in the list.
COMMANDS = {
    "simulate": radar_simulate.simulate,
    "import": radar_import.import_,
    "image": radar_image.image,
    "focus": radar_focus.focus,
    "enhance": radar_sharpen.enhance,
    "dataset": radar_dataset.dataset,
    "train": radar_train.train,
    "eval": radar_sharpen.evaluate,
}

app = cyclopts.App(
    name="radar",
    help="From a hand-held millimetre-wave scan to a sharp image.\n\n"
    "Example: saccade radar simulate --geometry freehand --target star+points --out scan.h5",
)
for _name, _command in COMMANDS.items():
    app.command(_command, name=_name)

"""`saccade radar`: from a scan to a sharp image, the list of its sub-commands."""

import cyclopts

from saccade.cli import radar_focus, radar_import, radar_scan, radar_sharpen

# Their files import nothing heavy until they are called, and only what is imported shows its sentence in the list.
COMMANDS = {
    "simulate": radar_scan.simulate,
    "import": radar_import.import_,
    "image": radar_scan.image,
    "focus": radar_focus.focus,
    "enhance": radar_sharpen.enhance,
    "dataset": radar_sharpen.dataset,
    "train": radar_sharpen.train,
    "eval": radar_sharpen.evaluate,
}

app = cyclopts.App(
    name="radar",
    help="From a hand-held millimetre-wave scan to a sharp image.\n\n"
    "Example: saccade radar simulate --geometry freehand --target star+points --out scan.h5",
)
for _name, _command in COMMANDS.items():
    app.command(_command, name=_name)

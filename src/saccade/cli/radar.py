"""`saccade radar`: from a scan to a sharp image. Which sub-command lives where; each is imported when called."""

import cyclopts

COMMANDS = {
    "simulate": "saccade.cli.radar_scan:simulate",
    "import": "saccade.cli.radar_import:import_",
    "image": "saccade.cli.radar_scan:image",
    "enhance": "saccade.cli.radar_sharpen:enhance",
    "focus": "saccade.cli.radar_focus:focus",
    "dataset": "saccade.cli.radar_sharpen:dataset",
    "train": "saccade.cli.radar_sharpen:train",
    "eval": "saccade.cli.radar_sharpen:evaluate",
}

app = cyclopts.App(
    name="radar",
    help="From a hand-held millimetre-wave scan to a sharp image.\n\n"
    "Example: saccade radar simulate --geometry freehand --target star+points --out scan.h5",
)
# Their files import nothing heavy, so their own help can be read for the list.
for _name, _home in COMMANDS.items():
    app.command(_home, name=_name)

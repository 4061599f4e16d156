"""`saccade data`: check a place of images, divide it, or write it in another form."""

import cyclopts

from saccade.cli import data_check, data_convert

app = cyclopts.App(name="data", help="Check, convert and split data.")
for _command in (data_check.check, data_convert.split, data_convert.convert):
    app.command(_command)

"""Run a recipe in a process of its own and print each step when it is done; a test kills or multiplies it."""

import json
import sys

from saccade.engine.train.loop import Run, train
from saccade.engine.train.recipe import build_recipe, load_recipe

original = Run.step


def step(self, batches, lr):
    losses = original(self, batches, lr)
    if self.session.accelerator.is_main_process:
        print(f"step {self.progress.step + 1}", flush=True)
    return losses


Run.step = step
folder, settings = sys.argv[1], sys.argv[2]
if settings == "resume":
    train(load_recipe(f"{folder}/recipe.yaml"), folder, resume=True)
else:
    train(build_recipe("", "", json.loads(settings))[0], folder)

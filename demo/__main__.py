"""The story of the demo: each step says what happens and where to look."""

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from demo.rows import random_half
from demo.services import DemoError, Service
from demo.split import WeightedSplit
from demo.steps import Demo, say, show_canary, show_drift, show_reload
from serving.config import ConfigurationError, Settings
from serving.model.errors import ModelError
from serving.training.training import train_model, write_model
from train import NAME, build_estimator, load_data


def main() -> None:
    """Run the demo, or end with status 1 and one line."""
    options = parse_options()
    try:
        settings = Settings.from_env(os.environ)
        with ExitStack() as stack:
            run(stack, settings, options.seconds)
    except (ConfigurationError, DemoError, ModelError, OSError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        print("\nStopped.")
    else:
        print("That was all: every process has ended, and no file is left.")


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="make demo", description="Watch drift, an A/B test, a canary and a reload."
    )
    parser.add_argument(
        "--seconds", type=float, default=20, help="of each step; default: %(default)s"
    )
    return parser.parse_args()


def run(stack: ExitStack, settings: Settings, seconds: float) -> None:
    """Start two services and the split, tell the story, and end them."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
    dataset = load_data()
    say(f"Model A is {settings.model_path.name}. Model B, of half of the rows, is trained now.")
    half_path = directory / "model.pkl"
    write_model(half_path, train_model(NAME, random_half(dataset), build_estimator))

    port = settings.port
    first = Service(port, settings.model_path, directory / "a")
    stack.callback(first.stop)
    second = Service(port + 2, half_path, directory / "b")
    stack.callback(second.stop)
    split = WeightedSplit(port + 1, (first.url, second.url))
    stack.callback(split.stop)

    demo = Demo(dataset, seconds, {first.version(): "A", second.version(): "B"})
    say(f"Open {first.url} beside this window. Ctrl-C ends the demo.")
    show_drift(demo, first)
    show_canary(demo, split)
    show_reload(demo, first, settings.model_path, half_path)


if __name__ == "__main__":
    main()

"""The command line of the registry: its commands, and what is wrong with a call."""

import pytest

from helpers import ROOT
from registries import run_python
from serving.registry.commands import build_parser, main


def test_each_command_has_a_handler_and_help():
    """Every command is listed with its help."""
    status, output, errors = run_python(ROOT, "-m", "serving.registry", "--help")
    assert (status, errors) == (0, "")
    for command in ("register", "list", "promote", "pull", "push"):
        assert f"\n    {command} " in output
    options = build_parser().parse_args(["list", "iris"])
    assert callable(options.handler)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["pull"], "the following arguments are required: models:/NAME/NUMBER or "),
        (["promote", "models:/iris/1"], "the following arguments are required: --alias"),
        (["push", "models"], "the following arguments are required: --image"),
    ],
)
def test_missing_argument_is_status_2(capsys, arguments, message):
    """A call without a required argument prints usage and ends with status 2."""
    with pytest.raises(SystemExit) as exit_error:
        main(arguments)
    assert exit_error.value.code == 2
    assert message in capsys.readouterr().err


def test_model_without_card_is_refused(checkout, assert_refused):
    """A model without a card cannot be registered or pushed: a version needs the card."""
    (checkout / "model.json").unlink()
    message = f"{checkout / 'model.pkl'} has no model card, which a version needs"
    assert_refused(checkout, "register", "iris", contains=message)
    assert_refused(checkout, "push", "models", "--image", "x", contains=message)

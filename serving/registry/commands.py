"""The command line of the registry: register, list, promote, pull, push."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.model.errors import ModelError, one_line
from serving.registry.model_files import RegistryError

try:
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow import MlflowException

    from serving.registry.promotion import move_alias
    from serving.registry.sagemaker import push_to_sagemaker
    from serving.registry.versions import format_versions, pull_version, register_version
except ModuleNotFoundError as error:
    raise ImportError(
        f"the registry needs {error.name}: make install-registry, then .venv-registry/bin/python"
    ) from error

DEFAULT_MODEL_PATH = Path(__file__).parent.parent.with_name("model.pkl")
URI_METAVAR = "models:/NAME/NUMBER or models:/NAME@ALIAS"
EXPECTED_ERRORS = (
    RegistryError,
    ModelError,
    MlflowException,
    BotoCoreError,
    ClientError,
    OSError,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command in `arguments` and print its result, or end with status 1 and one line."""
    options = build_parser().parse_args(arguments)
    try:
        print(options.handler(options))
    except EXPECTED_ERRORS as error:
        sys.exit(one_line(error))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; each command sets its handler as `handler`."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.registry", description="Manage the versions of a model."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    help_text = "register a model file as a version of NAME"
    register = commands.add_parser("register", help=help_text, description=help_text)
    register.add_argument("name", metavar="NAME")
    _add_model_option(register)
    register.set_defaults(handler=_register)

    help_text = "list the versions of NAME"
    list_command = commands.add_parser("list", help=help_text, description=help_text)
    list_command.add_argument("name", metavar="NAME")
    list_command.set_defaults(handler=_list)

    help_text = "move an alias to a version, unless the version is worse"
    promote = commands.add_parser("promote", help=help_text, description=help_text)
    promote.add_argument("uri", metavar=URI_METAVAR)
    promote.add_argument("--alias", required=True)
    promote.add_argument("--force", action="store_true", help="move the alias in any case")
    promote.set_defaults(handler=_promote)

    help_text = "write the files of a version"
    pull = commands.add_parser("pull", help=help_text, description=help_text)
    pull.add_argument("uri", metavar=URI_METAVAR)
    _add_model_option(pull)
    pull.set_defaults(handler=_pull)

    help_text = "upload a model file to S3 and to SageMaker's registry"
    push = commands.add_parser("push", help=help_text, description=help_text)
    push.add_argument("bucket", metavar="BUCKET")
    push.add_argument(
        "--image", required=True, help="the image in Amazon ECR that will serve the model"
    )
    _add_model_option(push)
    push.set_defaults(handler=_push)

    return parser


def _add_model_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=Path,
        default=DEFAULT_MODEL_PATH,
        metavar="PATH",
        help="default: %(default)s",
    )


def _register(options: argparse.Namespace) -> str:
    return register_version(options.model, options.name)


def _list(options: argparse.Namespace) -> str:
    return format_versions(options.name)


def _promote(options: argparse.Namespace) -> str:
    return move_alias(options.uri, options.alias, force=options.force)


def _pull(options: argparse.Namespace) -> str:
    return pull_version(options.uri, options.model)


def _push(options: argparse.Namespace) -> str:
    return push_to_sagemaker(options.model, options.bucket, options.image)

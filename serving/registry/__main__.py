"""Run the command line of the registry, or report that its libraries are missing."""

import sys

if __name__ == "__main__":
    try:
        from serving.registry.commands import main
    except ModuleNotFoundError as error:
        target = "make install-registry, then .venv-registry/bin/python"
        sys.exit(f"the registry needs {error.name}: {target}")
    except ImportError as error:
        sys.exit(str(error))
    main()

"""The Flower app: the two doors and a pyproject.toml in a folder that `flwr run FOLDER` takes."""

from pathlib import Path

PACKAGE = "fedjourney_app"
"""Name of the doors' package inside the app; no bare `server`, which an installed package could shadow."""

PYPROJECT = f"""\
# Written by fedjourney: the Flower app of any experiment. By hand:
#   flwr run . local --stream --federation-config "num-supernodes=3" \\
#     --run-config 'experiment="/absolute/experiment.toml" run="/absolute/run/folder"'
[project]
name = "fedjourney-app"
version = "1.0.0"
description = "The two doors of fedjourney: a ClientApp and a ServerApp for any experiment file."
license = "Apache-2.0"
dependencies = []  # Flower would install them anew at every run; the wheel is on both sides already

[tool.flwr.app]
publisher = "fedjourney"
fab-include = ["{PACKAGE}/*.py"]

[tool.flwr.app.components]
serverapp = "{PACKAGE}.server:app"
clientapp = "{PACKAGE}.client:app"

[tool.flwr.app.config]
experiment = ""  # path of the experiment's TOML file on the server machine
set = ""         # overrides `table.key=value`, separated by ";"
run = ""         # absolute run folder on the server machine; if it exists, the run is resumed
"""


def door(side: str) -> str:
    """Return the source of a door, `clients` or `server`, from the wheel or else from the checkout.

    Raises:
        FileNotFoundError: neither is there; the installation is broken.
    """
    here = Path(__file__).parent
    shipped, checkout = here / "_doors" / f"{side}.py", here.parents[1] / side / "app.py"
    return (shipped if shipped.exists() else checkout).read_text(encoding="utf-8")


def assemble(folder: Path) -> Path:
    """Write the Flower app into a folder (made if it is missing) and return the folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(path.name for path in assemble(Path(folder)).iterdir())
    ['fedjourney_app', 'pyproject.toml']
    """
    package = folder / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text('"""The two doors of fedjourney."""\n', encoding="utf-8")
    (package / "client.py").write_text(door("clients"), encoding="utf-8")
    (package / "server.py").write_text(door("server"), encoding="utf-8")
    (folder / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    return folder

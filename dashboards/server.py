"""MLflow's own user interface over a results folder, on loopback only."""

import logging
import os
import re
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlencode

from hushsweep.datasets.results import StoreError
from hushsweep.datasets.results.files import exclusive

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # MLflow's own retries would block for up to four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # saves 8 processes and 2 GB
    "PGCONNECT_TIMEOUT": "20",  # a database host that answers nothing
}

_NAMES = {"MLFLOW_SERVER_ALLOWED_HOSTS": "localhost,localhost:*,127.0.0.1,127.0.0.1:*"}
"""Names by which a browser may call the server: a page from elsewhere that has its own name lead here gets nothing."""

_FOR_NETWORKS = {"workflowType": "machine_learning"}
"""Without it MLflow may open on its pages for language models."""


def quiet_mlflow() -> None:
    """Switch MLflow's telemetry, retries and chatter off in this process, unless the user has set them."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # sets up its logging, so that the levels below stay

    for name in (mlflow.__name__, "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # a database that goes away is raised as well, and said in one sentence by whoever asked
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def without_password(tracking_uri: str) -> str:
    """The address with ``***`` in place of a password, to be printed."""
    hidden = re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", tracking_uri)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", hidden)


def reach_database(tracking_uri: str) -> None:
    """Connect to the database server at `tracking_uri` and make MLflow's tables; other addresses are left alone.

    MLflow itself tries ten times within 100 seconds before it says that nobody answers. On PostgreSQL the tables are
    made under a lock: two processes that make them at once trip over each other.

    Raises:
        StoreError: the database's driver is not installed.
        SQLAlchemyError: it cannot be reached, or refuses.
        MlflowException: MLflow cannot use it.
    """
    kind = tracking_uri.partition(":")[0].partition("+")[0]
    if kind not in {"postgresql", "mysql", "mssql"}:
        return
    from mlflow import MlflowClient
    from sqlalchemy import NullPool, create_engine, text

    try:
        engine = create_engine(tracking_uri, poolclass=NullPool)
    except ModuleNotFoundError as error:
        needed = "pip install 'hushsweep[postgres]'" if kind == "postgresql" else f"install {error.name}"
        where = without_password(tracking_uri)
        raise StoreError(f"{where}: its driver '{error.name}' is not installed; {needed}") from error
    with engine.connect() as connection:
        if kind == "postgresql":
            connection.execute(text("SELECT pg_advisory_lock(hashtext('hushsweep mirror'))"))
            MlflowClient(tracking_uri).search_experiments(max_results=1)


def local_tracking_uri(results: Path | str) -> str:
    """Address of the MLflow database inside the results folder."""
    from sqlalchemy import URL

    database = Path(results).expanduser().absolute() / "mlflow.db"
    return URL.create("sqlite", database=str(database)).render_as_string()


def ensure_local_database(results: Path | str) -> None:
    """Create the MLflow database of the results folder unless it is there.

    MLflow makes its tables in some fifty steps. Two processes at once trip over each other, and one that is killed
    half-way leaves a database that MLflow refuses ever after; so it is made under another name and then renamed.

    Raises:
        StoreError: the folder cannot be written.
    """
    database = Path(results).expanduser().absolute() / "mlflow.db"
    if database.exists():
        return
    with exclusive(database.with_name(".mlflow.lock"), f"{database}, being created,", wait_s=120):
        if database.exists():
            return
        for abandoned in database.parent.glob(".mlflow.*/"):
            shutil.rmtree(abandoned, ignore_errors=True)
        quiet_mlflow()
        from mlflow import MlflowClient

        with tempfile.TemporaryDirectory(prefix=".mlflow.", dir=database.parent) as folder:
            MlflowClient(local_tracking_uri(folder)).search_experiments()
            (Path(folder) / "mlflow.db").replace(database)


def ui_command(results: Path | str, port: int) -> tuple[list[str], dict[str, str]]:
    """Command and environment that serve the MLflow UI of `results` on 127.0.0.1, without telemetry or jobs.

    Raises:
        StoreError: the folder cannot be written.
    """
    ensure_local_database(results)
    artifacts = Path(results).expanduser().absolute() / "mlartifacts"
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    data = ["--backend-store-uri", local_tracking_uri(results), "--artifacts-destination", artifacts.as_uri()]
    environment = {**_ENVIRONMENT, **_NAMES, **os.environ, **_import_path()}
    return [sys.executable, "-m", "mlflow", "server", *address, *data], environment


def _import_path() -> dict[str, str]:
    """Environment in which Python and uvicorn, each of its own accord, import nothing from the working folder."""
    found = find_spec("mlflow")
    assert found is not None
    assert found.origin is not None
    return {"PYTHONSAFEPATH": "1", "UVICORN_APP_DIR": str(Path(found.origin).parents[1])}


def ui_address(results: Path | str, port: int, sweep: str | None = None) -> str:
    """Address to open in a browser; the view that draws the curves of `sweep` if it is mirrored already.

    Of a database that this MLflow cannot read (another version wrote it) it is the plain address.
    """
    address = f"http://127.0.0.1:{port}"
    if sweep is None or not (Path(results) / "mlflow.db").exists():
        return address
    quiet_mlflow()
    from alembic.util import CommandError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        experiment = MlflowClient(local_tracking_uri(results)).get_experiment_by_name(sweep)
    except (MlflowException, SQLAlchemyError, CommandError):
        return address
    if experiment is None:
        return address
    return f"{address}/{curves_view(experiment.experiment_id)}"


def curves_view(experiment_id: str) -> str:
    """Where below MLflow's address the curves of a sweep are drawn over each other.

    MLflow folds runs up below their parent, and draws none that is folded, unless they are sorted by something else
    than time; the filter leaves the sweep's own run out, which has no mechanism.
    """
    view = {
        "compareRunsMode": "CHART",
        **_FOR_NETWORKS,
        "searchFilter": "params.mechanism != ''",
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": "true",
    }
    return f"#/experiments/{experiment_id}/runs?{urlencode(view, quote_via=quote)}"


def artifacts_view(experiment_id: str, run_id: str, file: str = "") -> str:
    """Where below MLflow's address the artifacts of a run are shown, or one file of them."""
    chosen = f"/{quote(file)}" if file else ""
    return f"#/experiments/{experiment_id}/runs/{run_id}/artifacts{chosen}?{urlencode(_FOR_NETWORKS)}"

"""Predictions that outgrow one machine: the logged model as a Spark function over a file or a folder of them."""

import logging
from pathlib import Path

from finetune import InputError
from finetune.logged_models.opening import LoggedModel
from finetune.models.files.schemas import reason
from finetune.predicting.output_columns import free_name
from finetune.predicting.tasks import Task
from finetune.redaction import redact

import mlflow

logger = logging.getLogger(__name__)
FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
# Of CSV as other programs write it: a quote in a text is doubled, a text may have several lines.
CSV = {"header": True, "escape": '"'}
READ_CSV = CSV | {"multiLine": True}
WRITE_CSV = CSV | {"ignoreLeadingWhiteSpace": False, "ignoreTrailingWhiteSpace": False}


def predict(uri: str, logged: LoggedModel, task: Task, source: str, target: str, parameters: dict, config: dict) -> str:
    """Read rows with Spark, add what the model says of them, write them as a folder; return its path.

    The session is Spark's own: where it runs is said by spark-defaults.conf, spark-submit or PYSPARK_SUBMIT_ARGS.
    The workers load the model from MLflow, and its base from where it was trained.

    Args:
        parameters: of the model, such as its threshold.
        config: `base_model`, `precision` and `compute_dtype` in place of the recorded ones; None for these.
        source, target: paths that Spark knows, such as s3://..., that end in .jsonl, .json, .csv or .parquet.

    Raises:
        InputError: no Spark, other paths, or rows without the model's columns.
    """
    try:
        from pyspark.errors import AnalysisException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise InputError("--engine spark needs Spark: pip install -r requirements-spark.txt, and Java 17.") from error
    kinds = [FORMATS.get(Path(path).suffix) for path in (source, target)]
    if None in kinds:
        raise InputError(f"--engine spark: {source} and {target} have to end in .jsonl, .json, .csv or .parquet.")
    if any(config.values()) and not task.served().is_configured:
        raise InputError("--engine spark loads the base of a text-to-SQL model as it was logged; leave the flags out.")
    spark = SparkSession.builder.appName("predict").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    try:
        return redact(_predict(spark, uri, logged, task, source, target, kinds, parameters, config))
    except AnalysisException as error:
        raise InputError(f"--engine spark: {reason(error)}.") from error
    finally:
        spark.stop()


def _predict(spark, uri, logged, task, source, target, kinds, parameters, config) -> str:
    from pyspark.sql import functions as sql

    rows = spark.read.load(source, format=kinds[0], **(READ_CSV if kinds[0] == "csv" else {}))
    workers = spark.sparkContext.defaultParallelism
    rows = rows.repartition(max(workers, rows.rdd.getNumPartitions()))  # A small file would go to one worker.
    served = task.served()
    needed = [name for name, is_column in served.given if is_column]
    if missing := [name for name in needed if name not in rows.columns]:
        raise InputError(f"the rows of {source} have no column {', '.join(missing)}; they have {rows.columns}.")
    given = sql.concat(*(sql.col(text) if is_column else sql.lit(text) for text, is_column in served.given))
    config = {name: value for name, value in config.items() if value} or None
    if uri.startswith("runs:/") and logged.model_id:  # Not one that is being logged meanwhile.
        uri = f"models:/{logged.model_id}"
    model = mlflow.pyfunc.spark_udf(
        spark, uri, result_type=served.type, env_manager="local", params=parameters, model_config=config
    )
    taken = [name.lower() for name in rows.columns]  # Spark does not look at the letter case.
    answered = model(sql.struct(given.alias(needed[0])) if served.is_named else given)
    if len(served.answers) == 1:
        found = rows.withColumn(free_name(served.answers[0], taken), answered)
    else:
        whole = free_name("found", taken)
        parts = [sql.col(whole)[name].alias(free_name(name, taken)) for name in served.answers]
        found = rows.withColumn(whole, answered).select("*", *parts).drop(whole)
    if kinds[1] == "csv":
        found = found.select(*(sql.to_json(name).alias(name) if "<" in kind else name for name, kind in found.dtypes))
    logger.info(f"Spark at {spark.sparkContext.master}: {rows.rdd.getNumPartitions()} partitions")
    found.write.save(target, format=kinds[1], **(WRITE_CSV if kinds[1] == "csv" else {}))
    return target

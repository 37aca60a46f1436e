"""When and where: Prefect flows that run the DAG of dvc.yaml, retrain on schedule and promote; no statistics here."""

"""The service with a change of the application's own in how records are made or written."""

import logging
import os

from app import create_app

app = create_app()
handler = logging.getLogger().handlers[0]


def add_tenant(record):
    record.tenant = "seen"
    return True


def new_record(*arguments, **members):
    record = logging.LogRecord(*arguments, **members)
    add_tenant(record)
    return record


change = os.environ["CHANGE"]
if change == "filter":
    handler.addFilter(add_tenant)
elif change == "factory":
    logging.setLogRecordFactory(new_record)
else:
    handler.setLevel(logging.ERROR)

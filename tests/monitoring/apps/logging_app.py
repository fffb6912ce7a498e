"""The service with a filter of the application's own on the handler of the log."""

import logging

from app import create_app

app = create_app()


def add_tenant(record):
    record.tenant = "seen"
    return True


logging.getLogger().handlers[0].addFilter(add_tenant)

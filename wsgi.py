"""Production entry from a checkout: ``gunicorn --worker-class gthread --threads 100 wsgi:app``."""

from fieldsvc.wsgi import app

__all__ = ["app"]

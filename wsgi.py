"""Production entry for a WSGI server: ``gunicorn --worker-class gthread --threads 8 wsgi:app``."""

from fieldsvc.app import create_app

app = create_app()

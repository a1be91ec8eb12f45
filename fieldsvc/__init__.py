"""fieldsvc: dispatch field work by geography, take offline results from crews, reconcile them into customer records."""

__version__ = "0.1.0"

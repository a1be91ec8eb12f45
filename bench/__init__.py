"""What fieldsvc claims about speed, runnable: ``python -m bench.push`` and ``python -m bench.pull``."""

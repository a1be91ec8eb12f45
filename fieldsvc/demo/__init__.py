"""The demo: two scenarios as plain data, and the play that sends them through the API."""

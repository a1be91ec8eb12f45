"""History: append-only evidence of who changed what, when, and by which operation."""

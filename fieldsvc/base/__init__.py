"""What every room stands on: the clock, ids, errors, the database and the three-way merge."""

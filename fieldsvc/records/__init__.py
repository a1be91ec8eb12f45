"""Customer records: customers, where they are, usage points, meters and their readings, seals, defects, contacts.

The only writer of these tables; nothing is overwritten that a later question could turn on.
"""

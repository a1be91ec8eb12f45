"""Work: tickets, incidents and jobs, their life cycle and promises, and dispatch. The only writer of a job's status."""

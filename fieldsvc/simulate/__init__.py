"""The simulation: crews' devices on bad lines against servers that are killed, and the proof that nothing was lost."""

"""Places: coordinate systems, territories, travel times, the planner and the map picture. Pure: no database, no web."""

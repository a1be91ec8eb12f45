"""What runs behind the doors: RQ workers, their tasks and the periodic sweep."""
